//! Strings of bytes that a guest writes to a port, finished at once: `rep outsb`.
//!
//! KVM leaves for userspace after every single element of an OUTS: 14 exits for a line of 14 bytes. But at that moment
//! the guest is between two iterations, a point the architecture lets everyone see (SDM volume 2B, "REP"): RIP still
//! at the instruction, RSI at the next byte, RCX the bytes left. So we may do the other iterations ourselves: take
//! the bytes from guest memory and move RSI and RCX on. With RCX at 0 the instruction ends by itself when the guest
//! goes on.
//!
//! What is done for the guest here is done with the guest's rights: no byte is read that its own instruction would
//! not be allowed to read (SDM volume 3A, sections 4.6 "Access Rights" and 5.3 "Limit Checking").

use super::Vcpu;
use crate::x86::Registers;
use crate::x86::mode::{RFLAGS_DF, RFLAGS_TF, cpl};
use crate::x86::page_table::{Access, Paging, PagingMode};
use kvm_bindings::{KVM_EXIT_IO, KVM_EXIT_IO_OUT, kvm_run, kvm_segment};
use kvm_ioctls::SyncReg;
use vm_memory::{Bytes, GuestAddress};

/// `rep outsb`, without prefixes that would change its segment or its address size.
const REP_OUTSB: [u8; 2] = [0xf3, 0x6e];

impl Vcpu {
    /// Completes a `rep outsb` in one exit, and returns how many bytes of `self.string` it wrote.
    ///
    /// Whatever is unusual (another segment or size, a page border, the direction flag, a trap flag) is left to KVM,
    /// one element at a time. So is a plain OUT: KVM's emulator shows RIP behind it, KVM's fast path at it, so that
    /// the instruction at RIP alone does not tell which one has come.
    pub(super) fn finish_string(&mut self) -> Option<usize> {
        let run = self.fd.get_kvm_run();
        if run.exit_reason != KVM_EXIT_IO {
            return None;
        }
        // SAFETY: exit_reason says that KVM filled `io`; data_offset points at its first byte.
        let (io, first) = unsafe {
            let io = run.__bindgen_anon_1.io;
            (io, *(run as *const kvm_run).cast::<u8>().add(io.data_offset as usize))
        };
        if u32::from(io.direction) != KVM_EXIT_IO_OUT || (io.size, io.count) != (1, 1) {
            return None;
        }
        let mut regs = self.fd.sync_regs_mut().regs;
        let flags_that_matter = RFLAGS_DF | RFLAGS_TF;
        if regs.rcx == 0 || regs.rip == self.plain_out || regs.rflags & flags_that_matter != 0 {
            return None;
        }
        // KVM may show RIP behind a plain OUT already: the string there may be for another port.
        if io.port != regs.rdx as u16 {
            return None;
        }
        let registers = Registers { general: regs, system: self.system_registers()? };
        let mut instruction = [0; 2];
        self.read_as_guest(&registers, Access::Fetch, registers.linear_rip(), &mut instruction)?;
        if instruction != REP_OUTSB {
            self.plain_out = regs.rip;
            // A guest that writes byte by byte shall not pay for registers nobody looks at.
            self.fd.clear_sync_valid_reg(SyncReg::SystemRegister);
            return None;
        }
        let (mask, ds) = match registers.bits() {
            64 => (u64::MAX, None),
            32 => (0xffff_ffff, Some(&registers.system.ds)),
            _ => (0xffff, Some(&registers.system.ds)),
        };
        // From the byte that KVM has just taken to the end of its page. Was it a plain OUT in front of the string,
        // the processor has not looked at that byte yet: so it is checked like those behind it.
        let (left, next) = (regs.rcx & mask, regs.rsi & mask);
        let from = next.checked_sub(1)?;
        let linear = ds.map_or(from, |ds| ds.base.wrapping_add(from) & 0xffff_ffff);
        let more = left.min(0xfff - (linear & 0xfff));
        if more == 0 || ds.is_some_and(|ds| !may_read(ds, from + more)) {
            return None;
        }
        let len = 1 + more as usize;
        let mut string = std::mem::take(&mut self.string);
        string.resize(len, 0);
        let is_read = self.read_as_guest(&registers, Access::Read, linear, &mut string);
        self.string = string;
        is_read?;
        if self.string[0] != first {
            return None;
        }
        regs.rcx = regs.rcx & !mask | (left - more);
        regs.rsi = regs.rsi & !mask | (next.wrapping_add(more) & mask);
        self.fd.sync_regs_mut().regs = regs;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        Some(len)
    }

    /// Reads guest memory within a page as the guest's instruction would. `None` where the processor would refuse it
    /// or do more than read, and where that is not known for sure.
    fn read_as_guest(
        &self,
        registers: &Registers,
        access: Access,
        linear: u64,
        data: &mut [u8],
    ) -> Option<()> {
        if (linear & 0xfff) as usize + data.len() > 0x1000 {
            return None;
        }
        let Registers { general, system } = registers;
        let paging = Paging::of(system);
        // The PDPT that counts with PAE is in registers that KVM does not show here.
        if paging.mode == PagingMode::Pae || !paging.is_canonical(linear) {
            return None;
        }
        let page = paging.find(&self.memory, linear)?;
        // To use an entry for the first time is to mark it, which is the processor's affair.
        if !page.accessed || !paging.allows(&page, access, cpl(system, general.rflags), general.rflags) {
            return None;
        }
        self.memory.read_slice(data, GuestAddress(page.address)).ok()
    }
}

/// Whether the data segment lets a byte at offset `last`, and those below it, be read (SDM volume 3A, sections 5.3
/// and 5.5). One that expands down has its bytes above its limit: that is left to KVM.
fn may_read(segment: &kvm_segment, last: u64) -> bool {
    const CODE: u8 = 1 << 3;
    const READABLE_CODE: u8 = 1 << 1;
    const EXPANDS_DOWN: u8 = 1 << 2;
    let is_readable = match segment.type_ & CODE != 0 {
        true => segment.type_ & READABLE_CODE != 0,
        false => segment.type_ & EXPANDS_DOWN == 0,
    };
    segment.unusable == 0 && segment.present == 1 && is_readable && last <= segment.limit.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::segment::Segment;

    #[test]
    fn a_segment_is_read_as_far_as_it_allows() {
        let flat = Segment::DATA.kvm();
        assert!(may_read(&flat, 0xffff_ffff));
        assert!(!may_read(&kvm_segment { limit: 0xfff, ..flat }, 0x1000));
        assert!(may_read(&kvm_segment { limit: 0xfff, ..flat }, 0xfff));
        assert!(!may_read(&kvm_segment { unusable: 1, ..flat }, 0), "a null selector");
        assert!(!may_read(&kvm_segment { present: 0, ..flat }, 0));
        // Data that expands down, code that can only be executed, and code that can be read.
        assert!(!may_read(&kvm_segment { type_: 0x7, ..flat }, 0xffff));
        assert!(!may_read(&kvm_segment { type_: 0x9, ..flat }, 0));
        assert!(may_read(&kvm_segment { type_: 0xb, ..flat }, 0));
    }
}
