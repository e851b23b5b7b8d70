//! The task register of a guest that goes on, for a processor that is QEMU's translator.
//!
//! Every processor marks a task state segment busy when a guest loads TR with it, and KVM says so of the register (SDM
//! volume 3A, "TSS Descriptor": type 9 becomes 11). The translator, whose SVM a nested KVM may run on, leaves 9 in the
//! register, and only while it finds 9 there does it look into the segment's I/O permission bitmap (QEMU,
//! target/i386/tcg, `helper_check_io`). So a guest that goes on there with 11 gets a general protection fault for each
//! IN and OUT of a program that may use the port.

use crate::sys::cpuid;
use kvm_bindings::kvm_sregs;

const AVAILABLE: u8 = 9;
const BUSY: u8 = 11;

/// `sregs` as this processor wants them.
pub(super) fn for_this_processor(sregs: kvm_sregs) -> kvm_sregs {
    for_processor(sregs, is_translated)
}

fn for_processor(mut sregs: kvm_sregs, is_translated: impl FnOnce() -> bool) -> kvm_sregs {
    // With selector 0, TR was never loaded, and a CPUID, which is an exit on some hosts, can be spared.
    if sregs.tr.selector != 0 && sregs.tr.type_ == BUSY && is_translated() {
        sregs.tr.type_ = AVAILABLE;
    }
    sregs
}

/// Whether the hypervisor's leaf (0x4000_0000) has the translator's signature in EBX, ECX and EDX.
fn is_translated() -> bool {
    let [_, ebx, ecx, edx] = cpuid(0x4000_0000);
    [ebx, ecx, edx].map(u32::to_le_bytes).as_flattened() == b"TCGTCGTCGTCG"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_on_the_translator_is_a_busy_segment_shown_as_it_shows_it() {
        let shown = |selector, type_, is_translated| {
            let mut sregs = kvm_sregs::default();
            (sregs.tr.selector, sregs.tr.type_) = (selector, type_);
            for_processor(sregs, || is_translated).tr.type_
        };
        assert_eq!(shown(0x40, 11, true), 9);
        assert_eq!(shown(0x40, 9, true), 9);
        assert_eq!(shown(0x40, 3, true), 3, "of 16 bits");
        assert_eq!(shown(0x40, 11, false), 11);
        assert_eq!(shown(0, 11, true), 11);
    }
}
