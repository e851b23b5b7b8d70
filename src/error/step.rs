//! The steps that the host can refuse, as a type: whoever wants to tell one failure from another compares these, and
//! never the words of a message.

use std::fmt;

/// What was asked of the host. `Display` completes the sentence "cannot …".
///
/// The ioctls are those of the kernel's Documentation/virt/kvm/api.rst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Open /dev/kvm.
    OpenKvm,
    /// Use what was opened: it is no KVM, or an old one.
    UseKvm,
    /// `KVM_CREATE_VM`
    CreateVm,
    /// `KVM_ENABLE_CAP` of `KVM_CAP_SPLIT_IRQCHIP`
    LocalApics,
    /// Map memory for the guest (mmap(2)).
    AllocateMemory,
    /// `KVM_SET_USER_MEMORY_REGION`
    AddMemory,
    /// `KVM_CREATE_VCPU`
    CreateVcpu,
    /// `KVM_RUN`
    RunVcpu,
    /// `KVM_SIGNAL_MSI`
    SignalMsi,
    /// `KVM_SET_GUEST_DEBUG`, or a KVM that takes it and does not do it.
    SingleStep,
    /// Let a vCPU's time-stamp counter go on at the rate it had (`KVM_SET_TSC_KHZ`, `KVM_VCPU_TSC_CTRL`).
    ContinueTsc,
    /// Read a part of the state of KVM, a VM or a vCPU: one of its `KVM_GET_…`.
    Get(&'static str),
    /// Set a part of the state of a VM or a vCPU: one of its `KVM_SET_…`.
    Set(&'static str),
    /// Set up signals and timers (sigaction(2), timer_create(2)).
    Signals,
    /// Switch the terminal to raw mode (tcsetattr(3)).
    Terminal,
    /// Start a thread (clone(2)).
    StartThread,
    /// Start a process (fork(2), execve(2)).
    StartProcess,
    /// Give up rights before the guest runs (seccomp(2), landlock(7)).
    Sandbox,
    /// Limit what a program may take (sched_setaffinity(2), timer_create(2)).
    Limits,
    /// Give a program a /tmp of its own (unshare(2), mount(2)).
    PrivateDirectory,
    /// Get random bytes (getrandom(2)).
    Random,
    /// Have a file that is nowhere but in memory (memfd_create(2)).
    MemoryFile,
    /// Copy the guest's memory into a file.
    CopyMemory,
    /// Read the memory of a golden image.
    ReadImage,
    /// See which pages the guest has written to (/proc/self/pagemap).
    WrittenPages,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::OpenKvm => "open /dev/kvm",
            Step::UseKvm => "use this /dev/kvm",
            Step::CreateVm => "create a VM",
            Step::LocalApics => "have local APICs (KVM_CAP_SPLIT_IRQCHIP)",
            Step::AllocateMemory => "map the guest's memory",
            Step::AddMemory => "give the VM its memory",
            Step::CreateVcpu => "create a vCPU",
            Step::RunVcpu => "run the vCPU",
            Step::SignalMsi => "deliver an interrupt",
            Step::SingleStep => "step through the guest (KVM_SET_GUEST_DEBUG)",
            Step::ContinueTsc => "let the guest's time-stamp counter go on at its rate",
            Step::Get(part) => return write!(f, "read {part}"),
            Step::Set(part) => return write!(f, "set {part}"),
            Step::Signals => "set up signals and timers",
            Step::Terminal => "set up the terminal",
            Step::StartThread => "start a thread",
            Step::StartProcess => "start a process",
            Step::Sandbox => "set up the sandbox",
            Step::Limits => "limit what the program may take",
            Step::PrivateDirectory => "give the program a /tmp of its own",
            Step::Random => "get random bytes",
            Step::MemoryFile => "have a file in memory",
            Step::CopyMemory => "copy the guest's memory",
            Step::ReadImage => "read the golden image",
            Step::WrittenPages => "see which pages the guest has written to",
        })
    }
}
