//! Looks at the host this process runs on, and notes what it sees. What cannot be read is left out.
//!
//! Sources: proc(5), sysfs(5), the kernel's admin-guide and ABI/testing/sysfs-*, the Intel SDM on CPUID. Nothing
//! is started or changed; /dev/kvm is opened and closed.

use super::facts::{
    Cgroups, Device, FLAGS, Facts, Firmware, HypervisorLeaf, Kernel, Kvm, Marks, Memory, Process, Processor,
    Timing, Xen,
};
use super::hypervisor;
use crate::container::proc::{Membership, Mount};
use crate::error::{Error, Step};
use crate::{kvm, sys};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The first of the leaves that hypervisors answer, and how far apart those of several are.
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
const LEAF_STEP: u32 = 0x100;
/// Beyond this leaf no hypervisor has been seen to answer.
const LEAF_END: u32 = 0x4000_0300;
/// Hyper-V's privileges.
const HYPERV_FEATURES: u32 = 0x4000_0003;

/// Notes everything.
pub fn gather() -> Facts {
    let mut facts = Files::below("/").facts();
    facts.process =
        Process { pid: std::process::id(), uid: sys::effective_user(), debug: cfg!(debug_assertions) };
    facts.marks.kubernetes = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if facts.marks.word.is_empty() {
        facts.marks.word = std::env::var("container").unwrap_or_default();
    }
    // SDM, volume 2A, CPUID: bit 31 of ECX is not used by processors, and set by hypervisors.
    facts.processor.hypervisor_bit = Some(sys::cpuid(1)[2] >> 31 == 1);
    if hypervisor::has_flag(&facts) == Some(true) {
        facts.processor.hypervisors = hypervisors(sys::cpuid);
        let is_hyperv = |leaf: &HypervisorLeaf| leaf.signature == "Microsoft Hv";
        facts.processor.hyperv_privileges =
            facts.processor.hypervisors.iter().any(is_hyperv).then(|| sys::cpuid(HYPERV_FEATURES)[1]);
    }
    ask_kvm(&mut facts.kvm);
    facts
}

/// Every hypervisor that answers: the first leaf always counts, a further one if it has a signature.
fn hypervisors(cpuid: impl Fn(u32) -> [u32; 4]) -> Vec<HypervisorLeaf> {
    let signature = |leaf| {
        let [_, ebx, ecx, edx] = cpuid(leaf);
        let bytes: Vec<u8> = [ebx, ecx, edx].into_iter().flat_map(u32::to_le_bytes).collect();
        let text: String =
            bytes.iter().map(|&byte| if byte.is_ascii() { byte as char } else { '?' }).collect();
        text.trim_end_matches('\0').to_owned()
    };
    let is_plain = |text: &str| text.len() >= 3 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    (HYPERVISOR_LEAF..LEAF_END)
        .step_by(LEAF_STEP as usize)
        .map(|leaf| HypervisorLeaf { leaf, signature: signature(leaf) })
        .filter(|found| is_plain(&found.signature))
        .collect()
}

fn ask_kvm(kvm: &mut Kvm) {
    kvm.device = match kvm::Kvm::open() {
        Ok(open) => {
            kvm.vcpus_max = open.max_vcpus();
            kvm.missing = open.missing().into_iter().map(str::to_owned).collect();
            Device::Open
        }
        Err(Error::Host { step: Step::OpenKvm, source }) if source.kind() == ErrorKind::NotFound => {
            Device::Absent
        }
        Err(Error::Host { step: Step::OpenKvm, source }) => {
            Device::Refused(source.raw_os_error().unwrap_or(0))
        }
        Err(other) => Device::Unfit(other.source().map_or(other.to_string(), ToString::to_string)),
    };
}

/// The files of a host, below a directory that a test may choose.
struct Files(PathBuf);

impl Files {
    fn below(root: impl Into<PathBuf>) -> Files {
        Files(root.into())
    }

    /// A file's text without the white space around it; empty if it cannot be read.
    fn text(&self, path: &str) -> String {
        self.read(path).map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    /// Of one that has no end, or is no text, a part is enough.
    fn read(&self, path: &str) -> io::Result<String> {
        const LIMIT: u64 = 1 << 20;
        let mut bytes = Vec::new();
        File::open(self.path(path))?.take(LIMIT).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn facts(&self) -> Facts {
        let mountinfo = self.read("/proc/self/mountinfo").ok();
        let mounts = Mount::all(mountinfo.as_deref().unwrap_or_default());
        Facts {
            processor: self.processor(),
            firmware: self.firmware(),
            kernel: Kernel {
                release: self.text("/proc/sys/kernel/osrelease"),
                version: self.text("/proc/version"),
            },
            xen: self.xen(),
            kvm: self.kvm(),
            marks: self.marks(&mounts),
            cgroups: mountinfo.map(|_| self.cgroups(&mounts)),
            memory: self.memory(),
            timing: self.timing(),
            process: Process::default(),
        }
    }

    fn processor(&self) -> Processor {
        let text = self.text("/proc/cpuinfo");
        let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(':')).collect();
        let value = |key: &str| {
            let line = lines.iter().find(|(name, _)| name.trim() == key);
            line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let flags = value("flags");
        let is_there = |flag: &&str| flags.split_whitespace().any(|word| word == *flag);
        Processor {
            vendor: value("vendor_id"),
            model: value("model name"),
            count: lines.iter().filter(|(name, _)| name.trim() == "processor").count(),
            flags: (!text.is_empty())
                .then(|| FLAGS.iter().filter(|flag| is_there(flag)).map(|flag| flag.to_string()).collect()),
            ..Processor::default()
        }
    }

    fn firmware(&self) -> Firmware {
        let dmi = |name: &str| self.text(&format!("/sys/class/dmi/id/{name}"));
        // ACPI specification, 5.2.6: six characters at byte 10 of a table's header.
        let dsdt = fs::read(self.path("/sys/firmware/acpi/tables/DSDT")).unwrap_or_default();
        let acpi_oem =
            dsdt.get(10..16).map(|id| String::from_utf8_lossy(id).trim_end_matches(['\0', ' ']).to_owned());
        Firmware {
            vendor: dmi("sys_vendor"),
            product: dmi("product_name"),
            version: dmi("product_version"),
            board: dmi("board_vendor"),
            bios: dmi("bios_vendor"),
            acpi_oem: acpi_oem.unwrap_or_default(),
            device_tree: self
                .text("/proc/device-tree/hypervisor/compatible")
                .trim_end_matches('\0')
                .to_owned(),
        }
    }

    fn xen(&self) -> Option<Xen> {
        let xen = Xen {
            kind: self.text("/sys/hypervisor/type"),
            guest: self.text("/sys/hypervisor/guest_type"),
            features: self.text("/sys/hypervisor/properties/features"),
            capabilities: self.text("/proc/xen/capabilities"),
        };
        (xen != Xen::default()).then_some(xen)
    }

    fn kvm(&self) -> Kvm {
        // There always is one, if there is a /sys.
        let modules = Some(self.names("/sys/module")).filter(|names| !names.is_empty());
        let modules = modules.map(|names| names.into_iter().filter(|name| name.starts_with("kvm")).collect());
        let parameter = |path: &str| self.text(&format!("/sys/module/{path}"));
        let nested = [parameter("kvm_intel/parameters/nested"), parameter("kvm_amd/parameters/nested")];
        let mode = fs::metadata(self.path("/dev/kvm")).map_or(0, |metadata| metadata.mode() & 0o777);
        Kvm {
            mode,
            modules,
            nested: nested.concat(),
            nx_huge_pages: parameter("kvm/parameters/nx_huge_pages"),
            itlb_multihit: self.text("/sys/devices/system/cpu/vulnerabilities/itlb_multihit"),
            ..Kvm::default()
        }
    }

    fn marks(&self, mounts: &[Mount]) -> Marks {
        let environment = self.read("/proc/1/environ").unwrap_or_default();
        let of_init = environment.split('\0').find_map(|entry| entry.strip_prefix("container="));
        let word = of_init.map_or_else(|| self.text("/run/systemd/container"), str::to_owned);
        let mut cgroups = Vec::new();
        for process in ["self", "1"] {
            let text = self.text(&format!("/proc/{process}/cgroup"));
            for group in Membership::all(&text) {
                if !cgroups.iter().any(|known| known == group.path) {
                    cgroups.push(group.path.to_owned());
                }
            }
        }
        // The last one mounted is the one that is seen.
        let on = |path: &str| mounts.iter().rfind(|mount| mount.point == path);
        Marks {
            dockerenv: self.exists("/.dockerenv"),
            containerenv: self.read("/run/.containerenv").ok(),
            word,
            kubernetes: false,
            cgroups,
            etc_mounts: ["/etc/hosts", "/etc/hostname"]
                .iter()
                .filter_map(|path| Some(on(path)?.root.clone()))
                .collect(),
            root: on("/").map(|mount| mount.kind.clone()).unwrap_or_default(),
            namespaces: self.namespaces("self"),
            // In another pid namespace, process 2 is some other one.
            first_namespaces: match self.text("/proc/2/comm").as_str() {
                "kthreadd" => self.namespaces("2"),
                _ => BTreeMap::new(),
            },
        }
    }

    /// The namespaces of a process, by their names and inodes.
    fn namespaces(&self, process: &str) -> BTreeMap<String, u64> {
        let directory = format!("/proc/{process}/ns");
        let inode = |name: String| {
            let inode = fs::metadata(self.path(&directory).join(&name)).ok()?.ino();
            (!name.ends_with("_for_children")).then_some((name, inode))
        };
        self.names(&directory).into_iter().filter_map(inode).collect()
    }

    fn cgroups(&self, mounts: &[Mount]) -> Cgroups {
        let unified = mounts.iter().rfind(|mount| mount.kind == "cgroup2");
        let legacy = mounts.iter().filter(|mount| mount.kind == "cgroup");
        let groups = self.text("/proc/self/cgroup");
        // A tree with a name of its own has no controller: `name=systemd`.
        let controllers = |mount: &Mount| -> Vec<String> {
            let all = Membership::all(&groups).flat_map(|group| group.controllers.split(','));
            all.filter(|name| !name.is_empty() && !name.starts_with("name=") && mount.has_super_option(name))
                .map(str::to_owned)
                .collect()
        };
        let own = |controller: &str| {
            let group = Membership::all(&groups).find(|group| group.has(controller));
            group.map_or("", |group| group.path)
        };
        let cpu_max = match unified {
            Some(mount) => self.text(&format!("{}{}/cpu.max", mount.point, own(""))),
            None => String::new(),
        };
        let cpu = mounts.iter().find(|mount| mount.kind == "cgroup" && mount.has_super_option("cpu"));
        let legacy_max = cpu.map(|mount| {
            let file = |name| self.text(&format!("{}{}/cpu.cfs_{name}_us", mount.point, own("cpu")));
            format!("{} {}", file("quota"), file("period"))
        });
        let options = |mount: &Mount| format!("{},{}", mount.options, mount.super_options);
        Cgroups {
            unified: unified.map(|mount| mount.point.clone()).unwrap_or_default(),
            options: unified.map(options).unwrap_or_default(),
            legacy: legacy.flat_map(controllers).collect(),
            cpu_max: if cpu_max.is_empty() {
                legacy_max.unwrap_or_default().trim().to_owned()
            } else {
                cpu_max
            },
        }
    }

    fn memory(&self) -> Memory {
        let text = self.text("/proc/meminfo");
        let number = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let enabled = self.text("/sys/kernel/mm/transparent_hugepage/enabled");
        let chosen = enabled.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        Memory {
            total_kib: number("MemTotal"),
            available_kib: number("MemAvailable"),
            huge_pages_free: number("HugePages_Free"),
            transparent: self
                .exists("/sys/kernel/mm")
                .then(|| chosen.map(|(word, _)| word.to_owned()).unwrap_or_default()),
        }
    }

    fn timing(&self) -> Timing {
        let stat = self.text("/proc/stat");
        // cpu user nice system idle iowait irq softirq steal …; guest time is part of user time.
        let times: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or("")
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|n| n.parse().ok())
            .collect();
        let total: u64 = times.iter().sum();
        let load = self.text("/proc/loadavg");
        Timing {
            governor: self.text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clocksource: self.text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            load: load.split(' ').next().and_then(|n| n.parse().ok()),
            stolen: times.get(7).map(|stolen| stolen * 1000 / total.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host made of files in a directory.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let files = Files::below(dir.path());
        (dir, files)
    }

    #[test]
    fn a_host_that_shows_nothing_gives_no_facts() {
        let (_dir, files) = host(&[]);
        assert_eq!(files.facts(), Facts::default());
    }

    #[test]
    fn the_processor_is_counted_and_its_flags_are_whole_words() {
        let cpuinfo = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: A Xeon\nflags\t\t: fpu vmxy hypervisor\n\n\
                       processor\t: 1\nflags\t\t: fpu vmx\n";
        let (_dir, files) = host(&[("proc/cpuinfo", cpuinfo)]);
        let processor = files.processor();
        assert_eq!((processor.count, processor.model.as_str()), (2, "A Xeon"));
        assert_eq!(processor.flags.unwrap(), ["hypervisor"]);
    }

    #[test]
    fn mounts_tell_the_root_the_cgroups_and_what_a_runtime_put_over_etc() {
        let mountinfo = "1 0 0:1 / / rw - rootfs none rw\n\
            27 1 0:50 / / rw,relatime master:7 - overlay overlay rw,lowerdir=/a\n\
            30 27 0:60 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate,favordynmods\n\
            31 27 8:1 /var/lib/docker/containers/0af1/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n";
        let (_dir, files) = host(&[
            ("proc/self/mountinfo", mountinfo),
            ("proc/self/cgroup", "0::/\n"),
            ("proc/1/cgroup", "0::/../x\n"),
            ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
        ]);
        let facts = files.facts();
        assert_eq!(facts.marks.root, "overlay");
        assert_eq!(facts.marks.etc_mounts, ["/var/lib/docker/containers/0af1/hosts"]);
        assert_eq!(facts.marks.cgroups, ["/", "/../x"]);
        let cgroups = facts.cgroups.unwrap();
        assert_eq!(cgroups.unified, "/sys/fs/cgroup");
        assert!(cgroups.options.ends_with("favordynmods"));
        assert_eq!(cgroups.cpu_max, "50000 100000");
    }

    #[test]
    fn cgroups_of_version_1_are_named_and_their_quota_is_found() {
        let mountinfo = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let (_dir, files) = host(&[
            ("proc/self/mountinfo", mountinfo),
            ("proc/self/cgroup", "9:name=systemd:/\n1:cpu,cpuacct:/job\n0::/\n"),
            ("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n"),
        ]);
        let cgroups = files.facts().cgroups.unwrap();
        assert_eq!(
            (cgroups.unified.as_str(), cgroups.legacy),
            ("/sys/fs/cgroup/unified", ["cpu", "cpuacct"].map(str::to_owned).to_vec())
        );
        assert_eq!(cgroups.cpu_max, "-1 100000");
    }

    #[test]
    fn every_hypervisor_that_answers_is_noted() {
        let words = |text: &[u8; 12]| {
            let word = |at: usize| u32::from_le_bytes(text[at..at + 4].try_into().unwrap());
            [0x4000_0001, word(0), word(4), word(8)]
        };
        let cpuid = |leaf| match leaf {
            0x4000_0000 => words(b"Microsoft Hv"),
            0x4000_0100 => words(b"KVMKVMKVM\0\0\0"),
            // What Intel's processors answer beyond their last leaf: the last leaf.
            _ => [7, 2, 0, 100],
        };
        let found = hypervisors(cpuid);
        let found: Vec<(u32, &str)> =
            found.iter().map(|found| (found.leaf, found.signature.as_str())).collect();
        assert_eq!(found, [(0x4000_0000, "Microsoft Hv"), (0x4000_0100, "KVMKVMKVM")]);
    }

    #[test]
    fn a_word_of_process_1_comes_first_and_stolen_time_is_a_share() {
        let (_dir, files) = host(&[
            ("proc/1/environ", "PATH=/bin\0container=lxc\0"),
            ("run/systemd/container", "other\n"),
            ("proc/stat", "cpu 100 0 100 700 0 0 0 100 50 0\n"),
            ("proc/loadavg", "0.42 0.1 0.1 1/2 3\n"),
        ]);
        let facts = files.facts();
        assert_eq!(facts.marks.word, "lxc");
        assert_eq!((facts.timing.stolen, facts.timing.load), (Some(100), Some(0.42)));
    }
}
