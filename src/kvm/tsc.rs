//! A guest's clocks: the time-stamp counter of a vCPU, its rate, and how it goes on elsewhere; kvm-clock.
//!
//! Source: KVM API document, `KVM_GET_TSC_KHZ`, and devices/vcpu.rst, "KVM_VCPU_TSC_CTRL".

use super::{Vcpu, Vm, host};
use crate::error::{Error, Result, Step};
use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, kvm_clock_data, kvm_device_attr};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// IA32_TIME_STAMP_COUNTER. It never stands still, so it has a part of its own.
pub(super) const IA32_TSC: u32 = 0x10;

/// `_IOW(KVMIO, 0xe1, struct kvm_device_attr)` and `_IOW(KVMIO, 0xe2, …)`, for a vCPU.
const KVM_SET_DEVICE_ATTR: libc::c_ulong = 0x4018_aee1;
const KVM_GET_DEVICE_ATTR: libc::c_ulong = 0x4018_aee2;

impl Vm {
    /// What the guest's kvm-clock shows, in ns (`KVM_GET_CLOCK`).
    pub fn clock(&self) -> Result<u64> {
        Ok(self.fd.get_clock().map_err(host(Step::Get("the guest's clock")))?.clock)
    }

    /// Sets the guest's kvm-clock, in ns (`KVM_SET_CLOCK`).
    pub fn set_clock(&self, clock: u64) -> Result<()> {
        let clock = kvm_clock_data { clock, ..Default::default() };
        self.fd.set_clock(&clock).map_err(host(Step::Set("the guest's clock")))
    }
}

impl Vcpu {
    /// The TSC and its rate in kHz.
    pub(super) fn tsc(&self) -> Result<[u64; 2]> {
        let khz = self.fd.get_tsc_khz().map_err(host(Step::Get("the rate of the vCPU's TSC")))?;
        Ok([self.msr(IA32_TSC).map_or(0, |entry| entry.data), khz.into()])
    }

    /// Lets the TSC go on from `tsc`, which it was `elapsed` ago.
    ///
    /// By its offset from the host's (`KVM_VCPU_TSC_OFFSET`): a value that is written is adjusted by some kernels
    /// to what they think was meant.
    pub(super) fn set_tsc(&self, tsc: u64, khz: u64, elapsed: Duration) -> Result<()> {
        let step = Step::ContinueTsc;
        let own: u64 = self.fd.get_tsc_khz().map_err(host(step))?.into();
        if own != khz {
            let wanted = u32::try_from(khz)
                .map_err(|_| Error::Host { step, source: io::ErrorKind::InvalidData.into() })?;
            // Within 250 ppm KVM calls it the same rate; else it needs a processor that can scale.
            self.fd.set_tsc_khz(wanted).map_err(host(step))?;
        }
        let passed = (elapsed.as_nanos() * u128::from(khz) / 1_000_000) as u64;
        let now = tsc.wrapping_add(passed);
        let before = self.msr(IA32_TSC).map_or(0, |entry| entry.data);
        let mut offset = 0;
        if self.tsc_offset(KVM_GET_DEVICE_ATTR, &mut offset).is_ok() {
            offset = offset.wrapping_add(now.wrapping_sub(before));
            return self.tsc_offset(KVM_SET_DEVICE_ATTR, &mut offset).map_err(host(step));
        }
        self.set_msrs(&[(IA32_TSC, now)])
    }

    /// Reads or sets the offset of the guest's TSC from the host's; Linux 5.16 and newer know it.
    fn tsc_offset(&self, request: libc::c_ulong, offset: &mut u64) -> io::Result<()> {
        let attribute = kvm_device_attr {
            flags: 0,
            group: KVM_VCPU_TSC_CTRL,
            attr: KVM_VCPU_TSC_OFFSET.into(),
            addr: std::ptr::from_mut(offset) as u64,
        };
        // SAFETY: the descriptor is the vCPU's. The attribute is one u64, which `addr` points to, and both outlive
        // the call.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), request, std::ptr::from_ref(&attribute)) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
