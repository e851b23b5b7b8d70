//! What the CPUID instruction tells a guest: what this host supports, with the guest's own numbering.
//!
//! Sources: Intel SDM volume 2A, "CPUID", and AMD64 APM volume 3, appendix E; leaf 0x4000_0000 and the next
//! by the KVM documentation, x86/cpuid.rst: KVM fills them in, and a Linux guest learns there of its clock,
//! so that it need not calibrate one.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaf 1, ECX bit 24: the local APIC's timer can wait for a value of the TSC. KVM has it, but
/// `KVM_GET_SUPPORTED_CPUID` does not say so, because it depends on whether the local APICs will be KVM's.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ECX bit 31: a hypervisor is present.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX bit 28: EBX\[23:16\] counts the package's logical processors.
const HTT: u32 = 1 << 28;

/// The leaves of the extended topology, by core and by die.
const TOPOLOGY: [u32; 2] = [0xb, 0x1f];

/// Adds what KVM has but does not list: the TSC deadline timer.
pub fn with_tsc_deadline(cpuid: &mut CpuId) {
    for leaf in cpuid.as_mut_slice().iter_mut().filter(|leaf| leaf.function == 0x1) {
        leaf.ecx |= TSC_DEADLINE;
    }
}

/// The first feature, in words, that the processor of `table` has and this host (`supported`) lacks. `None` if a guest
/// that was started with `table` can go on here.
///
/// It looks at the vendor and at the words of the table that are feature bits: a missing one makes a guest fault.
pub fn missing(supported: &CpuId, table: &CpuId) -> Option<String> {
    let here = |leaf: &kvm_cpuid_entry2| {
        let mut leaves = supported.as_slice().iter();
        let found = leaves.find(|here| (here.function, here.index) == (leaf.function, leaf.index));
        found.map_or([0; 4], registers)
    };
    for leaf in table.as_slice() {
        let (had, has) = (registers(leaf), here(leaf));
        if leaf.function == 0 && had[1..] != has[1..] {
            return Some("it is of another vendor".into());
        }
        let words = FEATURES
            .iter()
            .filter(|(function, index, ..)| (*function, *index) == (leaf.function, leaf.index));
        for &(function, index, register, own) in words {
            let missing = had[register] & !has[register] & !own;
            if missing != 0 {
                let name = ["eax", "ebx", "ecx", "edx"][register];
                return Some(format!("CPUID {function:#x}.{index} {name} has {missing:#x} more"));
            }
        }
    }
    None
}

fn registers(leaf: &kvm_cpuid_entry2) -> [u32; 4] {
    [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
}

/// OSXSAVE, a copy of CR4's bit.
const OSXSAVE: u32 = 1 << 27;
/// Leaf 7, ECX bit 4: OSPKE, another.
const OSPKE: u32 = 1 << 4;

/// The registers that hold feature bits: leaf, subleaf, register (0 is EAX), and the bits that do not depend on the
/// host.
const FEATURES: [(u32, u32, usize, u32); 11] = [
    (0x1, 0, 2, OSXSAVE | HYPERVISOR | TSC_DEADLINE),
    (0x1, 0, 3, HTT),
    (0x7, 0, 1, 0),
    (0x7, 0, 2, OSPKE),
    (0x7, 0, 3, 0),
    (0x7, 1, 0, 0),
    (0xd, 0, 0, 0),
    (0xd, 0, 3, 0),
    (0xd, 1, 0, 0),
    (0x8000_0001, 0, 2, 0),
    (0x8000_0001, 0, 3, 0),
];

/// Fits what the host supports to processor `index` of `count`, which are cores of one package.
///
/// The processor's APIC id is its index. KVM reports the ids of the host processor that asked; a guest
/// that believed them would find every processor to be the same one.
pub fn personalise(cpuid: &mut CpuId, index: u32, count: u32) {
    // Bits of an APIC id that number the core.
    let bits = count.next_power_of_two().trailing_zeros();
    let mut last_leaf = 0;
    for leaf in cpuid.as_mut_slice() {
        match leaf.function {
            0x0 => last_leaf = leaf.eax,
            0x1 => {
                leaf.ecx |= HYPERVISOR;
                leaf.ebx = leaf.ebx & 0x0000_ffff | (count.min(255) << 16) | (index << 24);
                leaf.edx = if count > 1 { leaf.edx | HTT } else { leaf.edx & !HTT };
            }
            // Deterministic cache parameters: cores in the package (EAX[31:26]), one thread per cache
            // (EAX[25:14]). AMD has the latter only.
            0x4 => leaf.eax = leaf.eax & 0x0000_3fff | ((count - 1).min(63) << 26),
            0x8000_001d => leaf.eax &= 0x0000_3fff,
            // AMD: bits of the APIC id (ECX[15:12]), cores in the package (ECX[7:0]).
            0x8000_0008 => leaf.ecx = leaf.ecx & 0xffff_0f00 | (bits << 12) | (count - 1).min(255),
            // AMD: the extended APIC id, the core with its one thread, and the one node.
            0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (index, index, 0),
            _ => {}
        }
    }
    // KVM may list no level of the topology, or the host's. Leaf 0xb is enough; 0x1f is not needed.
    cpuid.retain(|leaf| !TOPOLOGY.contains(&leaf.function));
    if last_leaf >= TOPOLOGY[0] {
        // Level 0 is the thread, level 1 the core: bits of the APIC id below the next level (EAX),
        // processors there (EBX), the level and its kind (ECX). EDX is the x2APIC id.
        for (level, eax, ebx, ecx) in [(0, 0, 1, 0x100), (1, bits, count, 0x201)] {
            let (function, flags) = (TOPOLOGY[0], KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
            let leaf = kvm_cpuid_entry2 {
                function,
                index: level,
                flags,
                eax,
                ebx,
                ecx,
                edx: index,
                ..Default::default()
            };
            // There is room: two entries were removed above, or the table is not full: hosts have some 50 entries.
            let _ = cpuid.push(leaf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(leaves: &[(u32, u32)]) -> CpuId {
        let entry = |&(function, index)| kvm_cpuid_entry2 {
            function,
            index,
            eax: 0xffff_ffff,
            ebx: 0xffff_ffff,
            ecx: !(TSC_DEADLINE | HYPERVISOR),
            edx: 0xffff_ffff,
            ..Default::default()
        };
        let entries: Vec<_> = leaves.iter().map(entry).collect();
        CpuId::from_entries(&entries).unwrap()
    }

    fn leaf(cpuid: &CpuId, function: u32, index: u32) -> Option<[u32; 4]> {
        let mut leaves = cpuid.as_slice().iter();
        let leaf = leaves.find(|leaf| (leaf.function, leaf.index) == (function, index))?;
        Some([leaf.eax, leaf.ebx, leaf.ecx, leaf.edx])
    }

    #[test]
    fn every_processor_has_its_own_id_in_every_leaf_that_has_one() {
        for index in 0..4 {
            let mut cpuid =
                table(&[(0, 0), (1, 0), (0xb, 0), (0xb, 1), (0xb, 2), (0x1f, 0), (0x8000_001e, 0)]);
            personalise(&mut cpuid, index, 4);
            assert_eq!(leaf(&cpuid, 1, 0).unwrap()[1], 0x0004_ffff | index << 24);
            assert_eq!(leaf(&cpuid, 0xb, 0), Some([0, 1, 0x100, index]));
            assert_eq!(leaf(&cpuid, 0xb, 1), Some([2, 4, 0x201, index]));
            assert_eq!((leaf(&cpuid, 0xb, 2), leaf(&cpuid, 0x1f, 0)), (None, None));
            assert_eq!(leaf(&cpuid, 0x8000_001e, 0).unwrap()[..3], [index, index, 0]);
        }
    }

    #[test]
    fn the_topology_is_told_even_where_kvm_leaves_it_out_but_not_beyond_the_last_leaf() {
        let mut cpuid = table(&[(0, 0)]);
        personalise(&mut cpuid, 0, 3);
        assert_eq!(leaf(&cpuid, 0xb, 1), Some([2, 3, 0x201, 0]));
        cpuid.as_mut_slice()[0].eax = 0xa;
        personalise(&mut cpuid, 0, 3);
        assert_eq!(leaf(&cpuid, 0xb, 0), None);
    }

    #[test]
    fn a_guest_goes_on_where_there_is_as_much_as_it_knows() {
        let with = |function, ecx| {
            let mut table = table(&[(0, 0), (function, 0)]);
            table.as_mut_slice()[1].ecx = ecx;
            table
        };
        let here = with(1, 0b0110);
        assert_eq!(missing(&here, &with(1, 0b0110)), None);
        assert_eq!(missing(&here, &with(1, 0b0010 | OSXSAVE | HYPERVISOR)), None, "its own bits");
        let found = missing(&here, &with(1, 0b1010));
        assert_eq!(found.as_deref(), Some("CPUID 0x1.0 ecx has 0x8 more"));
        assert_eq!(missing(&here, &with(0x7, 1)).as_deref(), Some("CPUID 0x7.0 ebx has 0xffffffff more"));
        assert_eq!(missing(&here, &with(0x15, 1)), None, "that is no feature");
        let mut other = with(1, 0);
        other.as_mut_slice()[0].ebx = u32::from_le_bytes(*b"Auth");
        assert_eq!(missing(&here, &other).as_deref(), Some("it is of another vendor"));
    }

    #[test]
    fn the_cores_are_those_of_one_package_and_share_no_cache() {
        let mut cpuid = table(&[(4, 0), (0x8000_0008, 0), (0x8000_001d, 0)]);
        personalise(&mut cpuid, 2, 5);
        assert_eq!(leaf(&cpuid, 4, 0).unwrap()[0], 4 << 26 | 0x3fff);
        assert_eq!(leaf(&cpuid, 0x8000_0008, 0).unwrap()[2] & 0xf0ff, 0x3004);
        assert_eq!(leaf(&cpuid, 0x8000_001d, 0).unwrap()[0], 0x3fff);
    }

    #[test]
    fn a_hypervisor_is_present_and_its_deadline_timer_if_it_has_one() {
        let mut cpuid = table(&[(1, 0)]);
        personalise(&mut cpuid, 0, 1);
        let [.., ecx, edx] = leaf(&cpuid, 1, 0).unwrap();
        assert_eq!((ecx & TSC_DEADLINE, ecx & HYPERVISOR, edx & HTT), (0, HYPERVISOR, 0));
        with_tsc_deadline(&mut cpuid);
        assert_eq!(leaf(&cpuid, 1, 0).unwrap()[2] & TSC_DEADLINE, TSC_DEADLINE);
    }
}
