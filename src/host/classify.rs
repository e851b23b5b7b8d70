//! From facts to layers: what stands on what, and which of it is called Type 1 or Type 2, by what was seen.
//!
//! The types are Goldberg's (Architectural Principles for Virtual Computer Systems, 1973): a monitor of Type I runs
//! on a bare machine, one of Type II on an extended host, under that host's operating system. KVM came later and
//! fits neither without a word more, so each judgement here comes with its reason.

use super::container::{self, Container};
use super::engine::{self, Engine, extension, vendor_module};
use super::facts::{Device, Facts};
use super::hypervisor::{self, Hypervisor, Platform, Role, has_flag};
use super::timing;
use serde::Serialize;

/// What a host is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Host {
    /// The layers, from the hardware up to where a guest would stand.
    pub stack: Vec<Layer>,
    /// The hypervisor below the host kernel.
    pub hypervisor: Option<Hypervisor>,
    /// How KVM runs a guest's code here.
    pub engine: Engine,
    /// The container around us.
    pub container: Option<Container>,
    /// The namespaces that are not the kernel's first ones.
    pub own_namespaces: Vec<&'static str>,
    /// What is Type 1 and Type 2 here, and why.
    pub types: Vec<Typed>,
    /// Why times measured here do not hold elsewhere.
    pub timings: Vec<String>,
    /// What else might speak against them and could not be read. Nothing speaks against them only if both are empty.
    pub timings_unknown: Vec<&'static str>,
}

impl Host {
    /// The layer of that kind, if this host has one.
    pub fn layer(&self, kind: LayerKind) -> Option<&Layer> {
        self.stack.iter().find(|layer| layer.kind == kind)
    }

    /// The judgement on that layer.
    pub fn judgement(&self, layer: LayerKind) -> Option<&Typed> {
        self.types.iter().find(|typed| typed.layer == layer)
    }
}

/// One layer of the stack.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// Which.
    pub kind: LayerKind,
    /// What it is here.
    pub name: String,
    /// What there is to say of it, a sentence or observation each.
    pub notes: Vec<String>,
}

/// The kinds of layers, from the bottom up. KVM is part of the kernel; VMM and guest are inside the container, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "they are names")]
pub enum LayerKind {
    Hardware,
    Hypervisor,
    Kernel,
    Kvm,
    Container,
    Vmm,
    Guest,
}

/// A judgement on one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Typed {
    /// Which layer.
    pub layer: LayerKind,
    /// The verdict.
    pub mark: Mark,
    /// Why, in a sentence.
    pub why: String,
    /// What was seen, one observation each.
    pub evidence: Vec<String>,
}

/// Type 1, Type 2, or what cannot be said from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// On the bare machine.
    Type1,
    /// A program under an operating system.
    Type2,
    /// Type 1 to many, Type 2 to others.
    Disputed,
    /// It cannot be told from where we are.
    Hidden,
    /// Not a hypervisor by the definition.
    Neither,
}

impl Mark {
    /// As it is written on the stack.
    pub fn label(self) -> &'static str {
        match self {
            Mark::Type1 => "Type 1",
            Mark::Type2 => "Type 2",
            Mark::Disputed => "Type 1 to many",
            Mark::Hidden => "Type 1 or 2: not to be seen from here",
            Mark::Neither => "no hypervisor",
        }
    }
}

/// What `facts` say about a host.
pub fn classify(facts: &Facts) -> Host {
    let hypervisor = hypervisor::find(facts);
    let (container, notes_on_none) = match container::find(facts) {
        Ok(container) => (Some(container), Vec::new()),
        Err(notes) => (None, notes),
    };
    let engine = engine::find(facts, hypervisor.as_ref());
    let mut stack = vec![hardware(facts, hypervisor.as_ref())];
    stack.extend(hypervisor.as_ref().map(hypervisor_layer));
    stack.push(kernel(facts, hypervisor.as_ref()));
    stack.push(kvm(facts, engine));
    stack.extend(container.as_ref().map(|container| Layer {
        kind: LayerKind::Container,
        name: container.runtime.clone(),
        notes: [&container.evidence[..], &["it shares the host kernel, and is no machine".into()]].concat(),
    }));
    let Layer { kind, name, mut notes } = vmm(facts);
    notes.extend(notes_on_none);
    stack.push(Layer { kind, name, notes });
    stack.push(guest(engine, &facts.kvm.device));
    Host {
        types: types(facts, hypervisor.as_ref(), engine),
        timings_unknown: timing::unknown(facts),
        timings: timing::unlike_others(facts, hypervisor.as_ref(), engine),
        own_namespaces: container::own_namespaces(&facts.marks),
        stack,
        hypervisor,
        engine,
        container,
    }
}

fn hardware(facts: &Facts, hypervisor: Option<&Hypervisor>) -> Layer {
    let processor = &facts.processor;
    let model = [&processor.model, &processor.vendor].into_iter().find(|name| !name.is_empty());
    let name = model.map_or("x86-64".into(), String::clone);
    let gib = facts.memory.total_kib as f64 / 1_048_576.0;
    let mut notes = Vec::new();
    if processor.count > 0 {
        let of = if hypervisor.is_some() { "as it is shown to us: " } else { "" };
        notes.push(format!("{of}{} processor(s), {gib:.1} GiB of memory", processor.count));
    }
    notes.push(match (extension(facts), hypervisor) {
        (None, _) if processor.flags.is_none() => {
            "whether it has VMX or SVM is not known: /proc/cpuinfo cannot be read".into()
        }
        (Some(name), None) => format!("it has {name}"),
        (Some(name), Some(_)) => format!("{name} is offered to us by the hypervisor"),
        (None, Some(_)) => "neither VMX nor SVM is offered to us".into(),
        (None, None) => "neither VMX nor SVM: it has none, or the firmware keeps it off".into(),
    });
    Layer { kind: LayerKind::Hardware, name, notes }
}

fn hypervisor_layer(hypervisor: &Hypervisor) -> Layer {
    let name = match &hypervisor.monitor {
        Some(monitor) if monitor != hypervisor.platform.name() => {
            format!("{} ({monitor})", hypervisor.platform.name())
        }
        _ => hypervisor.platform.name().into(),
    };
    Layer { kind: LayerKind::Hypervisor, name, notes: hypervisor.evidence.clone() }
}

fn kernel(facts: &Facts, hypervisor: Option<&Hypervisor>) -> Layer {
    let release = &facts.kernel.release;
    let mut notes = Vec::new();
    match hypervisor.map(|hypervisor| (hypervisor.role, hypervisor.platform)) {
        Some((Role::Root, Platform::Xen)) => notes.push("it is Xen's domain 0".into()),
        Some((Role::Root, _)) => notes.push("it is the root partition".into()),
        Some((Role::Guest, _)) => notes.push("it is itself a guest".into()),
        None if has_flag(facts).is_none() => {
            notes.push("whether a hypervisor is below is not known: /proc/cpuinfo cannot be read".into());
        }
        None => notes.push("it has the hardware to itself".into()),
    }
    let name = match release.to_ascii_lowercase() {
        lower if lower.ends_with("-microsoft") => {
            notes = vec!["WSL 1: Windows answers the system calls, there is no Linux and no KVM".into()];
            format!("Windows, as Linux {release}")
        }
        lower if lower.contains("microsoft") => {
            notes.push("WSL 2: beside Windows, which has the root partition".into());
            format!("Linux {release}")
        }
        // gVisor, which calls itself by one version for all time.
        _ if facts.kernel.version.contains("#1 SMP Sun Jan 10 15:06:54 PST 2016") => {
            notes.push("gVisor answers the system calls, a kernel that is a process".into());
            format!("gVisor, as Linux {release}")
        }
        _ => format!("Linux {release}"),
    };
    Layer { kind: LayerKind::Kernel, name, notes }
}

fn kvm(facts: &Facts, engine: Engine) -> Layer {
    let module = vendor_module(facts).unwrap_or("kvm");
    let (name, note) = match engine {
        Engine::Hardware => {
            (module, "hardware-assisted: the processor runs the guest and comes back when it must")
        }
        Engine::Nested => {
            (module, "nested: VMX or SVM come from the hypervisor below, which handles each exit first")
        }
        Engine::Software => {
            (module, "without VMX or SVM: a guest's ring 3 runs directly, its ring 0 in software")
        }
        Engine::None => ("none", "no module of this kernel runs guests"),
        Engine::Unknown => ("unknown", "how it would run a guest is not known: /sys/module cannot be read"),
    };
    Layer { kind: LayerKind::Kvm, name: name.into(), notes: vec![note.into()] }
}

fn vmm(facts: &Facts) -> Layer {
    let process = &facts.process;
    let notes =
        vec![format!("process {} of user {}, scheduled by the kernel below", process.pid, process.uid)];
    Layer { kind: LayerKind::Vmm, name: "matchstick".into(), notes }
}

fn guest(engine: Engine, device: &Device) -> Layer {
    let note = match (engine, device) {
        (_, Device::Open) => match engine {
            Engine::Software => "would stand here; its ring 0 in software, its ring 3 on the processor",
            Engine::Unknown => "would stand here",
            _ => "would stand here, and run on the processor itself",
        },
        (_, Device::Absent) => "cannot stand here: there is no /dev/kvm",
        (_, Device::Refused(_)) => "cannot stand here: /dev/kvm is there, but not for us",
        (_, Device::Unfit(_)) => "cannot stand here: this /dev/kvm is not fit",
    };
    Layer { kind: LayerKind::Guest, name: "your guest".into(), notes: vec![note.into()] }
}

fn types(facts: &Facts, hypervisor: Option<&Hypervisor>, engine: Engine) -> Vec<Typed> {
    let mut types = vec![Typed {
        layer: LayerKind::Vmm,
        mark: Mark::Type2,
        why: "the monitor is a program under an operating system: Goldberg's Type II".into(),
        evidence: vec![
            format!("it is process {}; its guest's memory is memory of this process", facts.process.pid),
            "it reaches the processor's guest mode only by system calls on /dev/kvm".into(),
        ],
    }];
    types.extend(type_of_kvm(facts, hypervisor, engine));
    types.extend(hypervisor.map(type_of_hypervisor));
    types
}

fn type_of_kvm(facts: &Facts, hypervisor: Option<&Hypervisor>, engine: Engine) -> Option<Typed> {
    let module = vendor_module(facts).unwrap_or("KVM");
    let typed =
        |mark, why: &str, evidence| Some(Typed { layer: LayerKind::Kvm, mark, why: why.into(), evidence });
    let in_kernel = format!("{module} is part of the host kernel, and enters the guest from its ring 0");
    match (engine, hypervisor) {
        (Engine::None | Engine::Unknown, _) => None,
        (Engine::Hardware, _) => typed(
            Mark::Disputed,
            "it makes a hypervisor of the kernel, and that kernel is on the bare machine",
            vec![in_kernel, "no hypervisor was found below the kernel".into()],
        ),
        (Engine::Nested | Engine::Software, Some(hypervisor)) => typed(
            Mark::Disputed,
            "in the kernel as well; but there is no bare machine under this kernel, only a virtual one",
            vec![in_kernel, format!("below the kernel there is {}", hypervisor.platform.name())],
        ),
        (Engine::Software, None) => typed(
            Mark::Disputed,
            "it makes a hypervisor of the bare machine's kernel, although neither VMX nor SVM takes part",
            vec![in_kernel, "no hypervisor was found below the kernel".into()],
        ),
        (Engine::Nested, None) => None,
    }
}

fn type_of_hypervisor(hypervisor: &Hypervisor) -> Typed {
    let (mark, why) = match hypervisor.platform {
        Platform::Xen => (Mark::Type1, "Xen is started by the boot loader, and its first kernel by Xen"),
        Platform::HyperV => (Mark::Type1, "Hyper-V is below every partition, the one with Windows included"),
        Platform::Acrn | Platform::Jailhouse | Platform::Qnx => {
            (Mark::Type1, "it is on the bare machine, and its guests are partitions of it")
        }
        Platform::VirtualBox | Platform::Parallels => {
            (Mark::Type2, "it is a program of a host system, with a driver in that system's kernel")
        }
        Platform::Tcg => {
            (Mark::Neither, "an emulator: no instruction of ours runs directly, as Goldberg asks for")
        }
        Platform::VMware => {
            (Mark::Hidden, "ESXi is Type 1, Workstation and Fusion are Type 2, and both answer alike")
        }
        Platform::Kvm | Platform::Bhyve | Platform::Nvmm | Platform::OpenBsd | Platform::Apple => (
            Mark::Disputed,
            "a part of its host's kernel, with a process for each machine: the same question, a floor below",
        ),
        Platform::Unknown => (Mark::Hidden, "it does not say what it is"),
    };
    Typed { layer: LayerKind::Hypervisor, mark, why: why.into(), evidence: hypervisor.evidence.clone() }
}
