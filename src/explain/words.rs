//! Words that people type who look for a lesson, and the lesson in which they find them.

/// Each lesson with the words that lead to it, in small letters.
const WORDS: &[(&str, &[&str])] = &[
    ("hypervisor", &["vmm", "virtualization", "virtualisation", "하이퍼바이저", "가상화"]),
    ("types", &["type-1", "type-2", "type1", "type2", "bare-metal", "hosted", "xen", "타입"]),
    ("kvm", &["/dev/kvm", "ioctl", "qemu", "firecracker"]),
    ("ring", &["rings", "privilege", "cpl", "링"]),
    ("vm-exit", &["exit", "exits", "vmexit", "vmcs", "vmcb", "hypercall"]),
    ("memory", &["ept", "npt", "paging", "pages", "mmu", "메모리", "페이지"]),
    ("serial", &["uart", "16550", "console", "com1", "직렬"]),
    ("boot", &["bios", "uefi", "multiboot", "pvh", "bzimage", "reset", "부팅"]),
    ("interrupt", &["interrupts", "apic", "ioapic", "irq", "timer", "인터럽트"]),
    ("virtio", &["disk", "network", "virtqueue", "balloon"]),
    ("snapshot", &["snapshots", "clone", "restore", "migration", "스냅샷"]),
    ("container", &["containers", "runc", "crun", "seccomp", "capabilities", "lxc", "컨테이너"]),
    ("namespaces", &["namespace", "lsns", "unshare", "setns", "nsenter", "netns", "네임스페이스"]),
    ("cgroups", &["cgroup", "limits", "memory.max", "cpu.max", "oom", "컨트롤-그룹"]),
    (
        "image",
        &[
            "images",
            "layer",
            "layers",
            "overlay",
            "overlayfs",
            "drift",
            "golden",
            "golden-image",
            "immutable",
        ],
    ),
    ("image", &["이미지", "레이어", "드리프트", "골든", "골든-이미지"]),
    ("docker", &["podman", "containerd", "oci", "dockerfile", "registry", "port", "도커"]),
    ("kubernetes", &["k8s", "kubelet", "cri", "runtimeclass", "kata", "gvisor", "쿠버네티스"]),
    (
        "objects",
        &[
            "pod",
            "pods",
            "node",
            "service",
            "ingress",
            "deployment",
            "replicaset",
            "daemonset",
            "job",
            "cronjob",
        ],
    ),
    (
        "objects",
        &[
            "configmap",
            "secret",
            "volume",
            "pv",
            "pvc",
            "quota",
            "sidecar",
            "autoscaling",
            "scheduler",
            "hpa",
        ],
    ),
    ("objects", &["파드", "노드", "서비스", "디플로이먼트", "볼륨", "오토스케일링"]),
    ("whose-kernel", &["sentry", "exec", "system-call", "시스템-콜", "시스템콜"]),
    ("vm-vs-container", &["vm", "vs", "difference", "isolation", "가상-머신", "가상머신", "격리"]),
];

/// The lesson that `word` leads to; small and capital letters are one, and so are a space, `_` and `-`.
pub fn topic(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase().replace([' ', '_'], "-");
    WORDS.iter().find(|(_, words)| words.contains(&word.as_str())).map(|(topic, _)| *topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::LANGUAGES;

    #[test]
    fn every_word_leads_to_one_lesson_and_is_none_itself() {
        let mut seen = Vec::new();
        for (topic, words) in WORDS {
            assert!(LANGUAGES[0].lesson(topic).is_some(), "{topic}");
            for word in *words {
                assert!(LANGUAGES[0].lesson(word).is_none() && !seen.contains(word), "{word}");
                seen.push(*word);
            }
        }
        for lesson in LANGUAGES[0].lessons {
            assert!(WORDS.iter().any(|(topic, _)| *topic == lesson.topic), "{}", lesson.topic);
        }
    }

    #[test]
    fn the_words_of_the_course_lead_somewhere() {
        for (word, expected) in [
            ("lsns", "namespaces"),
            ("Pod", "objects"),
            ("k8s", "kubernetes"),
            ("drift", "image"),
            ("golden image", "image"),
            ("도커", "docker"),
            ("네임스페이스", "namespaces"),
        ] {
            assert_eq!(topic(word), Some(expected), "{word}");
        }
        assert_eq!(topic("no such word"), None);
    }
}
