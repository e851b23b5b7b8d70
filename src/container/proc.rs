//! Two files of /proc, read: which file systems are mounted, and in which control groups a process is.
//!
//! Sources: proc_pid_mountinfo(5), cgroups(7).

/// A line of /proc/self/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The directory of the file system that is mounted: `/`, or a part of it.
    pub root: String,
    /// The path it is mounted on.
    pub point: String,
    /// The options of this mount.
    pub options: String,
    /// The file system's type.
    pub kind: String,
    /// The options of the file system, which all of its mounts share. Version 1 control groups name their controllers.
    pub super_options: String,
}

impl Mount {
    /// All of a file's; what is no such line is left out. Of several on one path, the last one is the one that is seen.
    pub fn all(mountinfo: &str) -> Vec<Mount> {
        mountinfo.lines().filter_map(Mount::parse).collect()
    }

    /// id, parent, device, root, mount point, options, optional fields, -, type, source, super options
    fn parse(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Mount {
            root: unescape(before.next()?),
            point: unescape(before.next()?),
            options: before.next()?.to_owned(),
            kind: after.next()?.to_owned(),
            super_options: after.nth(1).unwrap_or("").to_owned(),
        })
    }

    /// Whether `option` is among the options of the file system.
    pub fn has_super_option(&self, option: &str) -> bool {
        self.super_options.split(',').any(|one| one == option)
    }
}

/// A path as it is: the file has space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let digits = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match digits {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                plain += &part[3..];
            }
            _ => plain = plain + "\\" + part,
        }
    }
    plain
}

/// A line of /proc/self/cgroup: where a process is in one tree of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership<'a> {
    /// The controllers of a version 1 tree, or `name=` and its name; empty for version 2.
    pub controllers: &'a str,
    /// The group's path from the root of the tree.
    pub path: &'a str,
}

impl<'a> Membership<'a> {
    /// All of a file's; what is no such line is left out.
    pub fn all(cgroup: &'a str) -> impl Iterator<Item = Membership<'a>> {
        cgroup.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some(Membership { controllers: parts.next()?, path: parts.next()? })
        })
    }

    /// Whether it is in the tree that has this controller; the empty word is version 2.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|one| one == controller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_has_its_two_kinds_of_options_and_its_path_as_it_is() {
        let text = "31 27 8:1 /a\\040b /mnt/c\\134d\\011 rw,nosuid shared:9 - ext4 /dev/sda1 ro,errors=panic\n\
                    nonsense\n\
                    38 31 0:31 / /x rw - cgroup2 none\n";
        let [first, second] = &Mount::all(text)[..] else { panic!("{:?}", Mount::all(text)) };
        assert_eq!((&*first.root, &*first.point), ("/a b", "/mnt/c\\d\t"));
        assert_eq!((&*first.options, &*first.kind), ("rw,nosuid", "ext4"));
        assert!(first.has_super_option("ro") && !first.has_super_option("rw"));
        assert_eq!((&*second.kind, &*second.super_options), ("cgroup2", ""));
        // What is no escape stays.
        assert_eq!(unescape("a\\9\\04\\777é\\"), "a\\9\\04\\777é\\");
    }

    #[test]
    fn a_path_of_a_cgroup_may_have_colons() {
        let all: Vec<Membership<'_>> = Membership::all("4:cpu,cpuacct:/a:b\n0::/\n\n5\n").collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].path, all[1].path), ("/a:b", "/"));
        assert!(all[0].has("cpu") && !all[0].has("") && all[1].has("") && !all[1].has("cpu"));
    }
}
