//! What a program sees of the processor: CPUID, the registers of vectors that it may use, and how large they are in a
//! signal's frame.
//!
//! Sources: Intel SDM volume 1, section 13.2 "Enumeration of CPU Support for XSAVE Instructions"; volume 2A, "CPUID".

use crate::error::Result;
use crate::kvm::Kvm;
use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// XCR0: x87, SSE, AVX and the three parts of AVX-512. AMX is left out: a process has to ask for it (arch_prctl(2)).
const OFFERED: u64 = 0xe7;
/// Leaf 1, ECX: XSAVE.
const XSAVE: u32 = 1 << 26;
/// Leaf 7, EBX: RDFSBASE and its kin.
const FSGSBASE: u32 = 1 << 0;
/// The legacy region and the header of an XSAVE area.
const XSAVE_MIN: u32 = 576;

/// The processor that each vCPU of a program is.
#[derive(Clone)]
pub struct Processor {
    /// What CPUID shows.
    pub cpuid: CpuId,
    /// The registers that programs may use, and that KVM reads and writes (`KVM_GET_XSAVE`).
    pub xcr0: u64,
    /// Whether KVM offers XSAVE. kvm_pvm does not, and yet its ring 3 runs on the processor as the host has set it up:
    /// programs find AVX there, and use it.
    pub has_xsave: bool,
    /// Whether there is RDFSBASE.
    pub has_fsgsbase: bool,
    /// Bytes of the XSAVE area for `xcr0`, or of FXSAVE's.
    pub fpu_size: u32,
}

impl Processor {
    /// As KVM can show it on this host.
    pub fn find(kvm: &Kvm) -> Result<Processor> {
        let cpuid = kvm.supported_cpuid()?;
        let leaf = |function, index| {
            let is = |entry: &&kvm_cpuid_entry2| (entry.function, entry.index) == (function, index);
            cpuid.as_slice().iter().find(is)
        };
        let has_xsave = leaf(1, 0).is_some_and(|leaf| leaf.ecx & XSAVE != 0);
        let has_fsgsbase = leaf(7, 0).is_some_and(|leaf| leaf.ebx & FSGSBASE != 0);
        // Whether XSAVE is offered or not, these are the parts that KVM keeps.
        let parts = leaf(0xd, 0).map_or(0, |all| u64::from(all.eax) & OFFERED);
        let xcr0 = parts | 0b11;
        let smallest = if has_xsave || parts != 0 { XSAVE_MIN } else { 512 };
        let ends = (2..8).filter(|part| xcr0 >> part & 1 != 0).filter_map(|part| leaf(0xd, part));
        let fpu_size = ends.map(|part| part.eax + part.ebx).fold(smallest, u32::max);
        Ok(Processor { cpuid, xcr0, has_xsave, has_fsgsbase, fpu_size })
    }
}

/// Bytes of a signal's frame: the return address, `ucontext_t`, `siginfo_t`.
pub const FRAME: u64 = 8 + UCONTEXT as u64 + 128;
/// Bytes of `ucontext_t`, as the kernel has it.
pub const UCONTEXT: usize = 304;
/// The most that a frame takes of a stack (AT_MINSIGSTKSZ).
pub fn frame_size(fpu_size: u32) -> u64 {
    FRAME + u64::from(fpu_size) + 4 + 64 + 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_size_of_the_kernels() {
        // 440 is sizeof(struct rt_sigframe) on x86-64.
        assert_eq!(FRAME, 440);
    }
}
