#!/usr/bin/python3
"""A walk through Kubernetes' Container Runtime Interface, as a kubelet takes it: tests/containers/containerd.rs runs it.

Usage: cri.py SOCKET HANDLER IMAGE DIRECTORY. Says what it has done, a line each, and fails at the first thing that is not
as it has to be. Messages are written by their field numbers (k8s.io/cri-api, runtime/v1/api.proto), so that it takes
nothing but Debian's python3-grpcio.
"""

import os
import sys
import time

import grpc

SOCKET, HANDLER, IMAGE, DIRECTORY = sys.argv[1:]
RUNNING, EXITED = 1, 2


def varint(number):
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def message(fields):
    """Fields by number: str, int, dict (a message) or a list of these."""
    out = b""
    for number, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                out += varint(number << 3) + varint(one)
                continue
            data = message(one) if isinstance(one, dict) else one.encode()
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def parsed(data):
    """The fields of a message, each with its last value: an int, or bytes."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            fields[key >> 3] = number()
        elif key & 7 == 2:
            size = number()
            fields[key >> 3] = data[at : at + size]
            at += size
        else:
            sys.exit(f"a field of wire type {key & 7}")
    return fields


channel = grpc.insecure_channel("unix:" + SOCKET)


def call(name, fields, service="Runtime"):
    method = channel.unary_unary(f"/runtime.v1.{service}Service/{name}")
    return parsed(method(message(fields), timeout=60, wait_for_ready=True))


def refused(name, fields, *words):
    try:
        call(name, fields)
    except grpc.RpcError as error:
        assert all(word in error.details() for word in words), error.details()
        return
    sys.exit(f"{name} was not refused: {words}")


def sandbox_config(name, **annotations):
    pairs = [{1: key.replace("_", "."), 2: value} for key, value in annotations.items()]
    # Of its own: pid; of the host's: network, as there is none to be set up.
    security = {1: {1: 2, 2: 0}}
    return {1: {1: name, 2: name + "-uid", 3: "default"}, 3: DIRECTORY, 7: pairs, 8: {2: security}}


def container(pod, config, name, words, memory=0):
    fields = {1: {1: name}, 2: {1: IMAGE}, 3: words, 11: name + ".log"}
    fields[15] = {1: {4: memory}, 2: {3: {1: 2, 2: 0}}}
    created = call("CreateContainer", {1: pod, 2: fields, 3: config})
    return created[1].decode()


def status(which):
    return parsed(call("ContainerStatus", {1: which})[1])


def wait_for_end(which):
    for _ in range(600):
        now = status(which)
        if now.get(3, 0) == EXITED:
            return now
        time.sleep(0.1)
    sys.exit("the container does not end")


def log(name):
    with open(os.path.join(DIRECTORY, name + ".log")) as file:
        # time, stream, F or P, text
        return [line.rstrip("\n").split(" ", 3)[3] for line in file]


def said(what):
    print(what, flush=True)


# The daemon's socket is there before it answers.
for _ in range(600):
    try:
        said("containerd " + call("Version", {})[3].decode())
        break
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
        # The daemon's log says why, where that goes on.
        time.sleep(0.1)

refused("RunPodSandbox", {1: sandbox_config("none"), 2: "no-such-handler"}, "no-such-handler")
said("no such handler")

config = sandbox_config("pod")
pod = call("RunPodSandbox", {1: config, 2: HANDLER})[1].decode()
said("RunPodSandbox")

server = container(pod, config, "server", ["sh", "-c", "echo up; trap 'echo down; exit 3' TERM; while :; do sleep 1; done"])
call("StartContainer", {1: server})
said("CreateContainer, StartContainer")

answer = call("ExecSync", {1: server, 2: ["sh", "-c", "echo out; echo err >&2; exit 4"], 3: 30})
assert (answer[1], answer[2], answer[3]) == (b"out\n", b"err\n", 4), answer
refused("ExecSync", {1: server, 2: ["no-such-program"], 3: 30}, "executable file not found in $PATH")
refused("ExecSync", {1: server, 2: ["/bin"], 3: 30}, "permission denied")
said("ExecSync")

# Which processes are VMs: the pod's is none, those of its containers are. They see each other.
answer = call("ExecSync", {1: server, 2: ["ps"], 3: 30})
processes = answer[1].decode().splitlines()[1:]
first = [line for line in processes if line.split()[0] == "1"]
assert len(first) == 1 and "matchstick" not in first[0], processes
assert any("/dev/matchstick exec" in line and "echo up" in line for line in processes), processes
said("a plain process holds the pod, and each container of it is a VM")

stats = parsed(call("ContainerStats", {1: server})[1])
assert parsed(parsed(stats[2])[2])[1] > 0, "no CPU time"
assert parsed(parsed(stats[3])[2])[1] > 0, "no memory"
said("ContainerStats")

call("UpdateContainerResources", {1: server, 2: {4: 64 << 20}})
answer = call("ExecSync", {1: server, 2: ["sh", "-c", "echo still"], 3: 30})
assert answer[1] == b"still\n", answer
said("UpdateContainerResources")

for words, words_of_error in [
    (["no-such-program"], "executable file not found in $PATH"),
    (["/no/such/program"], "no such file or directory"),
    (["/bin"], "permission denied"),
]:
    which = container(pod, config, "fails", words)
    refused("StartContainer", {1: which}, words_of_error)
    call("RemoveContainer", {1: which})
said("no such program; one that is not executable")

crash = container(pod, config, "crash", ["sh", "-c", "kill -SEGV $$"])
call("StartContainer", {1: crash})
assert wait_for_end(crash)[7] == 128 + 11
call("RemoveContainer", {1: crash})
said("a crash")

hog = container(pod, config, "hog", ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"], 32 << 20)
call("StartContainer", {1: hog})
ended = wait_for_end(hog)
assert ended[7] == 137, ended
assert ended[10] == b"OOMKilled", ended
call("RemoveContainer", {1: hog})
said("out of memory")

began = time.monotonic()
call("StopContainer", {1: server, 2: 20})
assert time.monotonic() - began < 20, "it had to be killed"
ended = wait_for_end(server)
assert ended[7] == 3, ended
assert log("server") == ["up", "down"], log("server")
said("StopContainer, and its log")

call("RemoveContainer", {1: server})
call("StopPodSandbox", {1: pod})
call("RemovePodSandbox", {1: pod})
said("removed")
