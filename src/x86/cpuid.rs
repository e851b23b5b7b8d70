//! What the CPUID instruction tells a guest: what this host supports, with the guest's own numbering.
//!
//! Source: Intel SDM volume 2A, "CPUID"; leaf 0x4000_0000 by the KVM documentation, x86/cpuid.rst.

use kvm_bindings::CpuId;

/// Leaf 1, ECX bit 31: a hypervisor is present.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, ECX bit 24: the local APIC's timer can count to a TSC value. KVM leaves it out of what it says it
/// supports, because it needs a local APIC in the kernel; ours always are.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, EDX bit 28: EBX\[23:16\] counts the package's logical processors.
const HTT: u32 = 1 << 28;

/// Fits what the host supports to processor `index` of `count`, which are cores of one package.
///
/// The processor's APIC id is its index. KVM reports the ids of the host processor that asked; a guest
/// that believed them would find every processor to be the same one.
pub fn personalise(cpuid: &mut CpuId, index: u32, count: u32) {
    for leaf in cpuid.as_mut_slice() {
        match leaf.function {
            0x1 => {
                leaf.ecx |= HYPERVISOR | TSC_DEADLINE;
                leaf.ebx = leaf.ebx & 0x0000_ffff | (count.min(255) << 16) | (index << 24);
                leaf.edx = if count > 1 { leaf.edx | HTT } else { leaf.edx & !HTT };
            }
            // Deterministic cache parameters: cores in the package (EAX[31:26]), one thread per cache level
            // below the last (EAX[25:14]).
            0x4 => leaf.eax = leaf.eax & 0x0000_3fff | ((count - 1).min(63) << 26),
            // Extended topology: level 0 is the thread, level 1 the core; EDX is the x2APIC id.
            0xb | 0x1f => {
                let bits = count.next_power_of_two().trailing_zeros();
                (leaf.eax, leaf.ebx, leaf.ecx) = match leaf.index {
                    0 => (0, 1, 0x100),
                    1 => (bits, count, 0x201),
                    level => (0, 0, level),
                };
                leaf.edx = index;
            }
            _ => {}
        }
    }
}
