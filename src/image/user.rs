//! The user that an image's program runs as: names and numbers, looked up in the image's own files.
//!
//! Nothing of the host's users is asked. Sources: the OCI image specification, config.md, "User"; passwd(5), group(5).

use super::Error;

/// A user and his groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The number of the first group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: String,
}

impl User {
    /// Whom `text` means: `user`, or `user:group`, each a name or a number; root, if it is empty. `passwd` and `group` are
    /// the contents of the image's files.
    ///
    /// # Errors
    /// A name stands in neither.
    pub fn find(text: &str, passwd: &str, group: &str) -> Result<User, Error> {
        let (name, group_name) = match text.split_once(':') {
            Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let name = if name.is_empty() { "0" } else { name };
        let number = name.parse().ok();
        let unknown = |name: &str| Error::NoUser { name: name.into() };
        // name:password:UID:GID:GECOS:directory:shell
        let line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
            let is_number = || number.is_some() && fields.get(2).and_then(|id| id.parse().ok()) == number;
            fields.len() >= 6 && (fields[0] == name || is_number())
        });
        let (uid, gid, home) = match (&line, number) {
            (Some(fields), _) => {
                let id = |at: usize| fields[at].parse().map_err(|_| unknown(name));
                (id(2)?, id(3)?, fields[5])
            }
            (None, Some(number)) => (number, 0, "/"),
            (None, None) => return Err(unknown(name)),
        };
        // name:password:GID:members
        let groups = || group.lines().map(|line| line.split(':').collect::<Vec<_>>());
        if let Some(wanted) = group_name {
            let named =
                groups().find(|fields| fields[0] == wanted).and_then(|fields| fields.get(2)?.parse().ok());
            let gid = named.or_else(|| wanted.parse().ok()).ok_or_else(|| unknown(wanted))?;
            return Ok(User { uid, gid, groups: Vec::new(), home: home.into() });
        }
        let login = line.as_ref().map_or(name, |fields| fields[0]);
        let has = |fields: &Vec<&str>| {
            fields.get(3).is_some_and(|members| members.split(',').any(|it| it == login))
        };
        let groups = groups().filter(has).filter_map(|fields| fields[2].parse().ok()).collect();
        Ok(User { uid, gid, groups, home: home.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv/web:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nmedia:x:7:web,other\nbroken\n";

    fn find(text: &str) -> Option<(u32, u32, Vec<u32>, String)> {
        let User { uid, gid, groups, home } = User::find(text, PASSWD, GROUP).ok()?;
        Some((uid, gid, groups, home))
    }

    #[test]
    fn names_and_numbers_are_those_of_the_image() {
        let web = Some((101, 102, vec![7], "/srv/web".to_owned()));
        assert_eq!((find("web"), find("101")), (web.clone(), web));
        assert_eq!(find(""), Some((0, 0, vec![], "/root".into())));
        assert_eq!(find("web:media"), Some((101, 7, vec![], "/srv/web".into())));
        assert_eq!(find("web:55"), Some((101, 55, vec![], "/srv/web".into())));
        assert_eq!(find("4711"), Some((4711, 0, vec![], "/".into())));
        assert_eq!(
            (find("nobody"), find("web:nobody"), find("-1"), find("broken")),
            (None, None, None, None)
        );
    }

    #[test]
    fn without_files_numbers_are_enough() {
        assert_eq!(User::find("5:6", "", "").unwrap().gid, 6);
        assert!(User::find("web", "", "").is_err());
    }
}
