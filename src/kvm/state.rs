//! The state of a vCPU outside guest memory: read whole, kept as bytes, set whole.
//!
//! Each [`StatePart`] is one of KVM's own structs, byte for byte: they are part of the kernel's ABI, so they mean
//! the same on every host. Values that a new vCPU has as well are left out by [`VcpuState::without`], because each
//! one that is set costs an ioctl; registers and events go through the shared page and cost none.
//!
//! Source: KVM API document, the sections of the ioctls named at each part.

use super::tcg::for_this_processor;
use super::tsc::IA32_TSC;
use super::{Vcpu, host};
use crate::error::{Error, Result, Step};
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_regs, kvm_run, kvm_sregs, kvm_sync_regs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::SyncReg;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::time::Duration;

/// One part of a vCPU's state. The numbers are those of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum StatePart {
    /// struct kvm_regs: `KVM_GET_REGS`.
    Regs = 1,
    /// struct kvm_sregs: `KVM_GET_SREGS`.
    Sregs = 2,
    /// struct kvm_vcpu_events: `KVM_GET_VCPU_EVENTS`.
    Events = 3,
    /// struct kvm_mp_state: `KVM_GET_MP_STATE`.
    MpState = 4,
    /// struct kvm_debugregs: `KVM_GET_DEBUGREGS`.
    DebugRegs = 5,
    /// struct kvm_xcrs: `KVM_GET_XCRS`.
    Xcrs = 6,
    /// struct kvm_xsave, 4096 bytes: `KVM_GET_XSAVE`.
    Xsave = 7,
    /// struct kvm_lapic_state: `KVM_GET_LAPIC`.
    Lapic = 8,
    /// Any number of struct kvm_msr_entry: `KVM_GET_MSRS`.
    Msrs = 9,
    /// Any number of struct kvm_cpuid_entry2, as it was set (`KVM_SET_CPUID2`).
    Cpuid = 10,
    /// Two u64: the TSC as the guest reads it, and its rate in kHz (`KVM_GET_TSC_KHZ`).
    Tsc = 11,
}

impl StatePart {
    /// Every part, in the order in which they are set.
    pub const ALL: [StatePart; 11] = [
        StatePart::Cpuid,
        StatePart::Sregs,
        StatePart::MpState,
        StatePart::DebugRegs,
        StatePart::Xcrs,
        StatePart::Xsave,
        StatePart::Tsc,
        StatePart::Lapic,
        StatePart::Msrs,
        StatePart::Regs,
        StatePart::Events,
    ];

    /// The part of that number.
    pub fn find(number: u32) -> Option<StatePart> {
        StatePart::ALL.into_iter().find(|&part| part as u32 == number)
    }

    /// What it is, in words.
    pub fn name(self) -> &'static str {
        match self {
            StatePart::Regs => "registers",
            StatePart::Sregs => "system registers",
            StatePart::Events => "pending events",
            StatePart::MpState => "run state",
            StatePart::DebugRegs => "debug registers",
            StatePart::Xcrs => "extended control registers",
            StatePart::Xsave => "FPU and vector registers",
            StatePart::Lapic => "local APIC",
            StatePart::Msrs => "model-specific registers",
            StatePart::Cpuid => "CPUID",
            StatePart::Tsc => "time-stamp counter",
        }
    }

    /// Whether `len` bytes can be such a part.
    fn fits(self, len: usize) -> bool {
        match self {
            StatePart::Regs => len == size_of::<kvm_regs>(),
            StatePart::Sregs => len == size_of::<kvm_sregs>(),
            StatePart::Events => len == size_of::<kvm_vcpu_events>(),
            StatePart::MpState => len == size_of::<kvm_mp_state>(),
            StatePart::DebugRegs => len == size_of::<kvm_debugregs>(),
            StatePart::Xcrs => len == size_of::<kvm_xcrs>(),
            StatePart::Xsave => len == size_of::<kvm_xsave>(),
            StatePart::Lapic => len == size_of::<kvm_lapic_state>(),
            StatePart::Msrs => len.is_multiple_of(size_of::<kvm_msr_entry>()) && len <= MSRS_MAX,
            StatePart::Cpuid => {
                len.is_multiple_of(size_of::<kvm_cpuid_entry2>())
                    && len / size_of::<kvm_cpuid_entry2>() <= KVM_MAX_CPUID_ENTRIES
            }
            StatePart::Tsc => len == size_of::<[u64; 2]>(),
        }
    }
}

/// The most bytes of MSRs: KVM knows a few hundred.
const MSRS_MAX: usize = 4096 * size_of::<kvm_msr_entry>();

/// The MSRs of Hyper-V, which no guest of ours is told of; among them clocks that cannot be set.
const HYPERV_MSRS: std::ops::Range<u32> = 0x4000_0000..0x4000_0200;

/// A struct of KVM's that is nothing but numbers.
///
/// # Safety
/// Without padding, and valid whatever its bytes are.
unsafe trait Plain {}

// SAFETY: bindings of structs of the kernel's ABI: integers and arrays of them, the padding spelled out as fields.
// Of kvm_xsave the part at its end has no bytes.
unsafe impl Plain for kvm_regs {}
// SAFETY: as above.
unsafe impl Plain for kvm_sregs {}
// SAFETY: as above.
unsafe impl Plain for kvm_vcpu_events {}
// SAFETY: as above.
unsafe impl Plain for kvm_mp_state {}
// SAFETY: as above.
unsafe impl Plain for kvm_debugregs {}
// SAFETY: as above.
unsafe impl Plain for kvm_xcrs {}
// SAFETY: as above.
unsafe impl Plain for kvm_xsave {}
// SAFETY: as above.
unsafe impl Plain for kvm_lapic_state {}
// SAFETY: as above.
unsafe impl Plain for kvm_msr_entry {}
// SAFETY: as above.
unsafe impl Plain for kvm_cpuid_entry2 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}

/// The bytes of structs.
fn bytes<T: Plain>(values: &[T]) -> Vec<u8> {
    // SAFETY: a Plain has no padding, so all its bytes are initialised.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }.to_vec()
}

/// The struct of those bytes, if it has as many.
fn value<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as many bytes as a T has, which may be any for a Plain.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast(), bytes.len());
        Some(value.assume_init())
    }
}

fn values<T: Plain>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).filter_map(value).collect()
}

/// The parts of a vCPU's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VcpuState {
    parts: Vec<(StatePart, Vec<u8>)>,
}

impl VcpuState {
    /// Every part that is known, with its bytes.
    pub fn parts(&self) -> impl Iterator<Item = (StatePart, &[u8])> {
        self.parts.iter().map(|(part, bytes)| (*part, bytes.as_slice()))
    }

    /// The bytes of one part.
    pub fn part(&self, part: StatePart) -> Option<&[u8]> {
        self.parts().find(|(other, _)| *other == part).map(|(_, bytes)| bytes)
    }

    /// Adds a part; false if it is there already or cannot have that many bytes.
    pub fn add(&mut self, part: StatePart, bytes: Vec<u8>) -> bool {
        let fits = part.fits(bytes.len()) && self.part(part).is_none();
        if fits {
            self.parts.push((part, bytes));
        }
        fits
    }

    /// The registers that lie in the page that KVM shares (KVM API document, section 5 "The kvm_run structure",
    /// `KVM_CAP_SYNC_REGS`): general ones, and system registers where KVM still puts them there.
    pub fn in_shared_page(page: &[u8]) -> VcpuState {
        let at = |offset: usize, len: usize| page.get(offset..offset + len);
        let valid = at(offset_of!(kvm_run, kvm_valid_regs), size_of::<u64>()).and_then(value::<u64>);
        let start = offset_of!(kvm_run, s);
        let places = [
            (SyncReg::Register, StatePart::Regs, offset_of!(kvm_sync_regs, regs), size_of::<kvm_regs>()),
            (
                SyncReg::SystemRegister,
                StatePart::Sregs,
                offset_of!(kvm_sync_regs, sregs),
                size_of::<kvm_sregs>(),
            ),
        ];
        let there = places.iter().filter(|(sync, ..)| valid.is_some_and(|valid| valid & *sync as u64 != 0));
        let part = |&(_, part, offset, len)| Some((part, at(start + offset, len)?.to_vec()));
        VcpuState { parts: there.filter_map(part).collect() }
    }

    fn get<T: Plain>(&self, part: StatePart) -> Option<T> {
        self.part(part).and_then(value)
    }

    /// General registers; without them a vCPU cannot go on.
    pub fn regs(&self) -> Option<kvm_regs> {
        self.get(StatePart::Regs)
    }

    /// System registers.
    pub fn sregs(&self) -> Option<kvm_sregs> {
        self.get(StatePart::Sregs)
    }

    /// Index and value of each model-specific register.
    pub fn msrs(&self) -> Vec<(u32, u64)> {
        let entries: Vec<kvm_msr_entry> = self.part(StatePart::Msrs).map(values).unwrap_or_default();
        entries.into_iter().map(|entry| (entry.index, entry.data)).collect()
    }

    /// The table that CPUID shows, if the guest was given one.
    pub fn cpuid(&self) -> Option<CpuId> {
        let entries: Vec<kvm_cpuid_entry2> = values(self.part(StatePart::Cpuid)?);
        CpuId::from_entries(&entries).ok()
    }

    /// TSC and its rate in kHz.
    pub fn tsc(&self) -> Option<(u64, u64)> {
        let numbers: Vec<u64> = values(self.part(StatePart::Tsc)?);
        Some((*numbers.first()?, *numbers.get(1)?))
    }

    /// This state without the values that a new vCPU, whose state is `new`, has as well. Registers, CPUID and TSC stay
    /// in any case, as a vCPU cannot go on without them.
    pub fn without(mut self, new: &VcpuState) -> VcpuState {
        const KEPT: [StatePart; 4] = [StatePart::Regs, StatePart::Sregs, StatePart::Cpuid, StatePart::Tsc];
        let own = new.msrs();
        for (part, bytes) in &mut self.parts {
            if *part == StatePart::Msrs {
                let mut entries: Vec<kvm_msr_entry> = values(bytes);
                entries.retain(|entry| !own.contains(&(entry.index, entry.data)));
                *bytes = self::bytes(&entries);
            }
        }
        self.parts.retain(|(part, bytes)| {
            KEPT.contains(part) || !bytes.is_empty() && new.part(*part) != Some(bytes.as_slice())
        });
        self
    }
}

impl Vcpu {
    /// Its whole state; `msrs` are the registers to ask for. Its TSC is part of it if it was given a CPUID table,
    /// which says whether there is one.
    ///
    /// An access that was served and not yet completed is not part of it: first [`Vcpu::leave_at_once`], and run
    /// it until it is [`Exit::Interrupted`](super::Exit::Interrupted).
    pub fn state(&self, msrs: &[u32]) -> Result<VcpuState> {
        let read = |what| host(Step::Get(what));
        let mut parts = Vec::new();
        // First: it makes KVM process an INIT or SIPI that is pending, which changes the other parts.
        let mp_state = self.fd.get_mp_state().map_err(read("the vCPU's run state"))?;
        parts.push((StatePart::MpState, bytes(&[mp_state])));
        let regs = self.fd.get_regs().map_err(read("the vCPU's registers"))?;
        parts.push((StatePart::Regs, bytes(&[regs])));
        let sregs = self.fd.get_sregs().map_err(read("the vCPU's system registers"))?;
        parts.push((StatePart::Sregs, bytes(&[sregs])));
        let debug = self.fd.get_debug_regs().map_err(read("the vCPU's debug registers"))?;
        parts.push((StatePart::DebugRegs, bytes(&[debug])));
        // Processors without XSAVE have no XCR0.
        if let Ok(xcrs) = self.fd.get_xcrs() {
            parts.push((StatePart::Xcrs, bytes(&[xcrs])));
        }
        let xsave = self.fd.get_xsave().map_err(read("the vCPU's FPU"))?;
        parts.push((StatePart::Xsave, bytes(&[xsave])));
        let lapic = self.fd.get_lapic().map_err(read("the vCPU's local APIC"))?;
        parts.push((StatePart::Lapic, bytes(&[lapic])));
        let indices = msrs.iter().copied().filter(|index| *index != IA32_TSC && !HYPERV_MSRS.contains(index));
        let entries: Vec<kvm_msr_entry> = indices.filter_map(|index| self.msr(index)).collect();
        parts.push((StatePart::Msrs, bytes(&entries)));
        let events = self.fd.get_vcpu_events().map_err(read("the vCPU's events"))?;
        parts.push((StatePart::Events, bytes(&[events])));
        if let Some(cpuid) = self.cpuid.get() {
            parts.push((StatePart::Cpuid, bytes(cpuid.as_slice())));
            parts.push((StatePart::Tsc, bytes(&self.tsc()?)));
        }
        Ok(VcpuState { parts })
    }

    /// One register, if this processor has it.
    pub(super) fn msr(&self, index: u32) -> Option<kvm_msr_entry> {
        let mut one = Msrs::from_entries(&[kvm_msr_entry { index, ..Default::default() }]).ok()?;
        let count = self.fd.get_msrs(&mut one).ok()?;
        one.as_slice().first().filter(|_| count == 1).copied()
    }

    /// Gives a vCPU that has not run, or has been made to [leave](Vcpu::leave_at_once), all of `state`. Its TSC
    /// goes on as if it had run for `elapsed` meanwhile.
    ///
    /// The order of the parts is given by KVM: CPUID comes first, as it decides which bits of registers may be set; the
    /// APIC's base address comes before the APIC, and the APIC before the MSR that sets its deadline.
    ///
    /// Only the first vCPU (`is_first`) gets registers through the shared page. Another one may wait for its SIPI: KVM
    /// would take what lies in the page after the SIPI, and so replace what the SIPI has set.
    pub fn set_state(&mut self, state: &VcpuState, elapsed: Duration, is_first: bool) -> Result<()> {
        let through_page = [StatePart::Regs, StatePart::Sregs, StatePart::Events];
        let is_small = state.parts().all(|(part, _)| through_page.contains(&part));
        for part in StatePart::ALL {
            let Some(bytes) = state.part(part) else { continue };
            if is_first && (is_small || matches!(part, StatePart::Regs | StatePart::Events)) {
                self.put_into_page(part, bytes);
            } else {
                self.set_part(part, bytes, elapsed)?;
            }
        }
        Ok(())
    }

    /// The same for a vCPU that has run: its CPUID table is the one it has, and cannot be set again.
    pub fn set_state_again(&mut self, state: &VcpuState, elapsed: Duration, is_first: bool) -> Result<()> {
        // So that KVM processes an INIT or SIPI that is pending now, and not when the vCPU runs again.
        self.fd.get_mp_state().map_err(host(Step::Get("the vCPU's run state")))?;
        for part in StatePart::ALL.into_iter().filter(|&part| part != StatePart::Cpuid) {
            let Some(bytes) = state.part(part) else { continue };
            match part {
                StatePart::Regs | StatePart::Events if is_first => self.put_into_page(part, bytes),
                _ => self.set_part(part, bytes, elapsed)?,
            }
        }
        Ok(())
    }

    /// Puts a part into the shared page, from where the next `KVM_RUN` takes it.
    fn put_into_page(&mut self, part: StatePart, bytes: &[u8]) {
        let page = self.fd.sync_regs_mut();
        let sync = match part {
            StatePart::Regs => value(bytes).map(|regs| page.regs = regs).map(|()| SyncReg::Register),
            StatePart::Sregs => value(bytes).map(|sregs| {
                page.sregs = for_this_processor(sregs);
                SyncReg::SystemRegister
            }),
            _ => value(bytes).map(|events| page.events = events).map(|()| SyncReg::VcpuEvents),
        };
        if let Some(sync) = sync {
            self.fd.set_sync_dirty_reg(sync);
        }
    }

    fn set_part(&self, part: StatePart, bytes: &[u8], elapsed: Duration) -> Result<()> {
        /// A part that was checked when it was added has the right length.
        fn one<T: Plain>(bytes: &[u8]) -> Result<T> {
            value(bytes).ok_or_else(|| Error::Misuse("a part of a vCPU's state has another length".into()))
        }
        match part {
            StatePart::Sregs => {
                let sregs = for_this_processor(one(bytes)?);
                self.fd.set_sregs(&sregs).map_err(host(Step::Set("the vCPU's system registers")))
            }
            StatePart::MpState => {
                self.fd.set_mp_state(one(bytes)?).map_err(host(Step::Set("the vCPU's run state")))
            }
            StatePart::DebugRegs => {
                self.fd.set_debug_regs(&one(bytes)?).map_err(host(Step::Set("the vCPU's debug registers")))
            }
            StatePart::Xcrs => {
                self.fd.set_xcrs(&one(bytes)?).map_err(host(Step::Set("the vCPU's control registers")))
            }
            StatePart::Xsave => {
                // SAFETY: it wants a buffer as large as KVM_CAP_XSAVE2 says, which is 4096 bytes, the size of this
                // struct, for a process that has not asked for larger features (arch_prctl(2)), as we never do.
                unsafe { self.fd.set_xsave(&one(bytes)?) }.map_err(host(Step::Set("the vCPU's FPU")))
            }
            StatePart::Lapic => {
                self.fd.set_lapic(&one(bytes)?).map_err(host(Step::Set("the vCPU's local APIC")))
            }
            StatePart::Msrs => {
                let msrs: Vec<(u32, u64)> =
                    values::<kvm_msr_entry>(bytes).iter().map(|entry| (entry.index, entry.data)).collect();
                self.set_msrs(&msrs)
            }
            StatePart::Cpuid => match CpuId::from_entries(&values::<kvm_cpuid_entry2>(bytes)) {
                Ok(cpuid) => self.set_cpuid(&cpuid),
                Err(_) => Err(Error::Misuse("a vCPU's CPUID table is too long".into())),
            },
            StatePart::Tsc => match values(bytes)[..] {
                [tsc, khz] => self.set_tsc(tsc, khz, elapsed),
                _ => Ok(()),
            },
            StatePart::Regs => {
                self.fd.set_regs(&one(bytes)?).map_err(host(Step::Set("the vCPU's registers")))
            }
            StatePart::Events => {
                self.fd.set_vcpu_events(&one(bytes)?).map_err(host(Step::Set("the vCPU's events")))
            }
        }
    }

    /// Makes the next [`Vcpu::run`] complete what was served and come back without running the guest
    /// (`immediate_exit`).
    pub fn leave_at_once(&mut self) {
        self.fd.set_kvm_immediate_exit(1);
    }

    /// Tells the guest's kvm-clock that the guest was paused, so that its watchdogs do not complain
    /// (`KVM_KVMCLOCK_CTRL`). Without that clock it does nothing.
    pub fn tell_pause(&self) {
        let _ = self.fd.kvmclock_ctrl();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_part_has_one_number_and_is_found_by_it() {
        for part in StatePart::ALL {
            assert_eq!(StatePart::find(part as u32), Some(part));
        }
        assert_eq!((StatePart::find(0), StatePart::find(12)), (None, None));
    }

    #[test]
    fn what_a_new_vcpu_has_is_left_out_register_by_register() {
        let state = |rip, msrs: &[(u32, u64)], dr7| {
            let mut state = VcpuState::default();
            let entry = |&(index, data): &(u32, u64)| kvm_msr_entry { index, data, ..Default::default() };
            assert!(state.add(StatePart::Regs, bytes(&[kvm_regs { rip, ..Default::default() }])));
            assert!(state.add(StatePart::Msrs, bytes(&msrs.iter().map(entry).collect::<Vec<_>>())));
            assert!(state.add(StatePart::DebugRegs, bytes(&[kvm_debugregs { dr7, ..Default::default() }])));
            state
        };
        let new = state(0, &[(1, 10), (2, 20)], 0x400);
        let less = state(0, &[(1, 10), (2, 21)], 0x400).without(&new);
        assert_eq!(less.msrs(), [(2, 21)]);
        assert_eq!((less.part(StatePart::DebugRegs), less.regs().is_some()), (None, true));
        assert_eq!(state(0, &[(1, 10)], 0).without(&new).part(StatePart::Msrs), None);
    }

    proptest! {
        #[test]
        fn a_part_takes_only_as_many_bytes_as_it_has(number in 0..14u32, len in 0..5000usize) {
            let mut state = VcpuState::default();
            if let Some(part) = StatePart::find(number) {
                let taken = state.add(part, vec![0xa5; len]);
                prop_assert_eq!(taken, part.fits(len));
                prop_assert!(!taken || !state.add(part, vec![0; len]), "twice");
            }
            let _ = (state.regs(), state.sregs(), state.msrs(), state.cpuid(), state.tsc());
        }
    }
}
