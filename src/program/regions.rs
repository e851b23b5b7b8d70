//! What is mapped where: the model of an address space, which page tables and host follow.
//!
//! Pure: no memory is touched. Source: mmap(2).

use super::errno::Errno;
use super::tables::Rights;
use std::collections::BTreeMap;

/// A mapping, up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where it ends.
    pub end: u64,
    /// What may be done there.
    pub rights: Rights,
    /// Memory of the program alone, without a file.
    pub is_anonymous: bool,
    /// What is written there others see as well, processes or a file (MAP_SHARED).
    pub is_shared: bool,
    /// It may be written to, or could be: it counts as memory of the program.
    pub is_counted: bool,
}

/// Why an access faulted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is allowed by now.
    Allowed,
    /// Nothing is mapped there: SEGV_MAPERR.
    Nothing,
    /// Something is, with other rights: SEGV_ACCERR.
    Denied,
}

/// Mappings, by where they begin. None overlaps another; neighbours that are the same are one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Regions {
    all: BTreeMap<u64, Region>,
    /// How many bytes of them may be the program's memory, if that is limited.
    pub limit: Option<u64>,
}

impl Regions {
    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.all.clear();
    }

    /// The regions that overlap `start..end`, cut to it.
    pub fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, Region)> + '_ {
        let before = self.all.range(..start).next_back().filter(|(_, region)| region.end > start);
        let first = before.map_or(start, |(at, _)| *at);
        self.all
            .range(first..end)
            .map(move |(&at, &region)| (at.max(start), Region { end: region.end.min(end), ..region }))
    }

    /// Whether nothing is mapped between `start` and `end`.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.within(start, end).next().is_none()
    }

    /// Forgets what is mapped between `start` and `end`.
    pub fn forget(&mut self, start: u64, end: u64) {
        let cut: Vec<(u64, Region)> = {
            let before = self.all.range(..start).next_back().filter(|(_, region)| region.end > start);
            let first = before.map_or(start, |(at, _)| *at);
            self.all.range(first..end).map(|(&at, &region)| (at, region)).collect()
        };
        for (at, region) in cut {
            self.all.remove(&at);
            if at < start {
                self.all.insert(at, Region { end: start, ..region });
            }
            if region.end > end {
                self.all.insert(end, region);
            }
        }
    }

    /// Puts a region into the model, as part of its neighbours where they are the same.
    pub fn remember(&mut self, mut start: u64, mut region: Region) {
        self.forget(start, region.end);
        let same = |other: &Region| Region { end: 0, ..*other } == Region { end: 0, ..region };
        if let Some((&at, before)) = self.all.range(..start).next_back()
            && before.end == start
            && same(before)
        {
            start = at;
        }
        if let Some(after) = self.all.get(&region.end).filter(|after| same(after)).copied() {
            self.all.remove(&region.end);
            region.end = after.end;
        }
        self.all.insert(start, region);
    }

    /// Where the region at `at` begins.
    pub fn start_of(&self, at: u64) -> u64 {
        self.all.range(..=at).next_back().map_or(at, |(&start, _)| start)
    }

    /// Where the region at `at` ends.
    pub fn end_of(&self, at: u64) -> u64 {
        self.all.range(..=at).next_back().map_or(at + 1, |(_, region)| region.end)
    }

    /// What is to be said of a fault at `at`, by now.
    pub fn verdict(&self, at: u64, writes: bool, runs: bool) -> Verdict {
        match self.within(at, at.saturating_add(1)).next() {
            None => Verdict::Nothing,
            Some((_, Region { rights, .. })) => {
                let is_allowed = if writes { rights.write } else { rights.read && (!runs || rights.run) };
                if is_allowed { Verdict::Allowed } else { Verdict::Denied }
            }
        }
    }

    /// Whether all of `start..end` is mapped.
    pub fn are_whole(&self, start: u64, end: u64) -> bool {
        let mut reached = start;
        for (at, region) in self.within(start, end) {
            if at != reached {
                return false;
            }
            reached = region.end;
        }
        reached >= end
    }

    /// The memory that the program may write to and that is its own, also where it began as a file's: from where to
    /// where.
    pub fn writable(&self) -> Vec<(u64, u64)> {
        let is_own = |(_, region): &(&u64, &Region)| !region.is_shared && region.rights.write;
        self.all.iter().filter(is_own).map(|(&at, region)| (at, region.end)).collect()
    }

    /// Bytes of the program's memory between `start` and `end`.
    pub fn counted(&self, start: u64, end: u64) -> u64 {
        let counted = self.within(start, end).filter(|(_, region)| region.is_counted);
        counted.map(|(at, region)| region.end - at).sum()
    }

    /// Whether what lies between `start` and `end` can become `len` bytes of the program's memory, ENOMEM if that
    /// were too much.
    pub fn check_memory(&self, start: u64, end: u64, len: u64) -> Result<(), Errno> {
        let all = || (self.counted(0, u64::MAX) - self.counted(start, end)).saturating_add(len);
        if self.limit.is_none_or(|limit| all() <= limit) { Ok(()) } else { Err(Errno(libc::ENOMEM)) }
    }

    /// What may be done at an address, if anything is mapped there.
    pub fn rights(&self, at: u64) -> Option<Rights> {
        self.within(at, at.saturating_add(1)).next().map(|(_, region)| region.rights)
    }

    /// Mappings of files, and memory shared with others, that may be read: from where to where, with which rights.
    pub fn of_files(&self) -> Vec<(u64, u64, Rights)> {
        let is_file = |(_, region): &(&u64, &Region)| !region.is_anonymous && region.rights.read;
        self.all.iter().filter(is_file).map(|(&at, region)| (at, region.end, region.rights)).collect()
    }

    /// All of them, in the form of /proc/self/maps; `heap` is where the heap begins.
    pub fn listed(&self, heap: u64) -> String {
        let line = |(at, region): (&u64, &Region)| {
            let Rights { read, write, run } = region.rights;
            let sign = |has, sign| if has { sign } else { '-' };
            let (r, w, x) = (sign(read, 'r'), sign(write, 'w'), sign(run, 'x'));
            let name = if *at <= heap && heap < region.end { "[heap]" } else { "" };
            format!("{at:08x}-{:08x} {r}{w}{x}p 00000000 00:00 0 {name:>32}\n", region.end)
        };
        self.all.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RIGHTS: [Rights; 3] = [
        Rights { read: true, write: true, run: false },
        Rights { read: true, write: false, run: true },
        Rights::NONE,
    ];

    proptest! {
        /// Against an array of pages.
        #[test]
        fn regions_say_of_each_page_what_was_said_last(
            steps in prop::collection::vec((0..64_u64, 1..16_u64, 0..4_usize), 1..60)
        ) {
            let mut regions = Regions::default();
            let mut pages = [None; 80];
            for (start, len, what) in steps {
                let (from, to) = (start << 12, (start + len) << 12);
                let rights = RIGHTS.get(what).copied();
                match rights {
                    Some(rights) => regions.remember(from, Region { end: to, rights, is_anonymous: true, is_shared: false, is_counted: rights.write }),
                    None => regions.forget(from, to),
                }
                pages[start as usize..(start + len) as usize].fill(rights);
                for (page, expected) in pages.iter().enumerate() {
                    let at = (page as u64) << 12 | 0x123;
                    let verdict = match expected {
                        None => Verdict::Nothing,
                        Some(rights) if rights.write => Verdict::Allowed,
                        Some(_) => Verdict::Denied,
                    };
                    prop_assert_eq!(regions.verdict(at, true, false), verdict);
                }
                let is_whole = pages[start as usize..(start + len) as usize].iter().all(Option::is_some);
                prop_assert_eq!(regions.are_whole(from, to), is_whole);
                prop_assert_eq!(regions.is_free(from, to), rights.is_none());
            }
            // Neighbours that are the same are one.
            let all: Vec<(u64, Region)> = regions.within(0, 80 << 12).collect();
            for pair in all.windows(2) {
                prop_assert!(pair[0].1.end < pair[1].0 || pair[0].1.rights != pair[1].1.rights);
            }
        }
    }
}
