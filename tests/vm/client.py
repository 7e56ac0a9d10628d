# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# client.py SEED [STEP...]: xnbd-client in a machine, with servers on the host: by netlink and by ioctl, what can be wrong,
# --persist under file systems while servers are killed and started again.
import random, re, subprocess, sys, time
from machine import HOST, XNBDBOX, Machine, connect, free_port, make_ext4, spawn

rng = random.Random(int(sys.argv[1]))
SIZE = 32 << 20


def start(command, port, wait=True):
    p = spawn(*command.split())
    if wait:
        connect(port, "disk" if "qemu" in command else "").shutdown()
    return p


def ours(image, port):
    return start(f"{XNBDBOX} xnbd-server --target --laddr 127.0.0.1 --lport {port} {image}", port)


def end(p):
    """The port is free then."""
    p.kill()
    p.wait()


def client(words):
    m.run(f"xnbd-client {words}")


def says(line, words):
    said = m.run(f"xnbd-client {words} && echo done || true")
    if said != f"xnbd-client: {line}\n":
        sys.exit(f"xnbd-client {words}: {said}")


def image_file(name, size=SIZE, random=False):
    with open(name, "wb") as f:
        f.write(rng.randbytes(size) if random else bytes(size))
    return name


def sockets(port):
    """Established connections of the machine."""
    return int(m.run(f"grep -c ' [0-9A-F]*:{port:04X} 01 ' /proc/net/tcp || true"))


OWNER = "owner() { for p in /proc/[0-9]*; do ! tr '\\0' ' ' <$p/cmdline | grep -q \"^@.*$1 \" || echo ${p#/proc/}; done 2>/dev/null; }"


def gone(*devices):
    for d in devices:
        m.run(f"until_true 300 sh -c 'xnbd-client --check /dev/{d}; [ $? = 2 ]'")


# ---- each server, in both ways --------------------------------------------------------------------

def use(port, words, name):
    """Writes, reads, and looks what the server has then."""
    at = rng.randrange(1, 200)
    client(words)
    m.run(f"[ $(blockdev --getsize64 /dev/nbd0) = {SIZE} ] && [ $(xnbd-client --check /dev/nbd0) -gt 1 ]")
    m.run(f"dd if=/dev/vda of=/dev/nbd0 bs=4096 skip={at} seek={at} count=50 2>/dev/null && xnbd-client --flush /dev/nbd0")
    with open(name, "rb") as f:
        f.seek(at * 4096)
        if f.read(50 * 4096) != data[at * 4096:][:50 * 4096]:
            sys.exit(f"{words}: what was flushed is not there")
    m.run("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/nbd0 bs=4096 count=300 2>/dev/null >/run/got; "
          f"dd if=/run/got bs=4096 skip={at} count=50 2>/dev/null >/run/a; dd if=/dev/vda bs=4096 skip={at} count=50 2>/dev/null | cmp - /run/a")
    says(f"'/dev/nbd0' is connected already, by process {m.run('xnbd-client -c /dev/nbd0').strip()}", words)
    client("--disconnect /dev/nbd0")
    gone("nbd0")


def each_server():
    for ioctl in "", "--nonetlink ":
        port, name = free_port(), image_file("s.img")
        p = ours(name, port)
        use(port, f"{ioctl}{HOST} {port} /dev/nbd0", name)
        client(f"{ioctl}--connections 4 --connect /dev/nbd0 nbd://{HOST}:{port}/")
        if sockets(port) != 4:
            sys.exit(f"{ioctl}: {sockets(port)} connections, not 4")
        client("-d /dev/nbd0")
        gone("nbd0")
        end(p)
        p = start(f"nbdkit -f -i 127.0.0.1 -p {port} file {name}", port)
        use(port, f"{ioctl}--exportname x {HOST} {port} /dev/nbd0", name)
        end(p)
        p = start(f"qemu-nbd -t -e 8 -f raw -b 127.0.0.1 -p {port} -x disk {name}", port)
        use(port, f"{ioctl}nbd://{HOST}:{port}/disk /dev/nbd0", name)
        end(p)


# ---- what can be wrong ------------------------------------------------------------------------------

def refusals():
    port = free_port()
    where = f"{HOST}:{port}"
    kit = f"nbdkit -f -i 127.0.0.1 -p {port}"
    says("'/dev/nbd0' is not connected", "--flush /dev/nbd0")
    says("'/dev/nbd0' is not connected", "--disconnect /dev/nbd0")
    says("'/dev/vda' is not a device such as /dev/nbd0: Block device required", f"{HOST} {port} /dev/vda")
    says(f"{where}: Connection refused", f"{HOST} {port} /dev/nbd0")
    p = start(f"{kit} memory 1000001", port)
    says(f"{where}: its size, 1000001 bytes, is not a multiple of the block size, 512", f"{HOST} {port} /dev/nbd0")
    end(p)
    p = start(f"{kit} memory 1049088", port)
    says(f"{where}: its size, 1049088 bytes, is not a multiple of the block size, 4096", f"-b 4096 {HOST} {port} /dev/nbd0")
    end(p)
    p = start(f"{kit} memory 0", port)
    says(f"{where}: its size, 0 bytes, is not a multiple of the block size, 512", f"{HOST} {port} /dev/nbd0")
    end(p)
    for minimum, words, line in (8192, "", "a device has at most 4096"), (2048, "-b 512 ", "a device has what was given"):
        p = start(f"{kit} --filter=blocksize-policy memory 1M blocksize-minimum={minimum} blocksize-preferred={minimum}", port)
        says(f"{where}: it needs a block size of {minimum}; {line}", f"{words}{HOST} {port} /dev/nbd0")
        end(p)
    p = start(f"{kit} --filter=multi-conn memory 1M multi-conn-mode=disable", port)
    line = f"xnbd-client: {where}: one connection, not 3: the server lacks CAN_MULTI_CONN\n"
    if m.run(f"xnbd-client -m 3 {HOST} {port} /dev/nbd0") != line or sockets(port) != 1:
        sys.exit(f"{sockets(port)} connections to a server that does not allow it")
    client("-d /dev/nbd0")
    gone("nbd0")
    m.run(f"xnbd-client -r -m 3 {HOST} {port} /dev/nbd0 && [ $(blockdev --getro /dev/nbd0) = 1 ]")
    if sockets(port) != 3:
        sys.exit("a device that is only read has not its connections")
    client("-d /dev/nbd0")
    gone("nbd0")
    m.run("su nobody -s /bin/sh -c true")
    said = m.run(f"su nobody -s /bin/sh -c 'xnbd-client {HOST} {port} /dev/nbd0' || echo $?")
    if said != "xnbd-client: '/dev/nbd0' cannot be connected: Operation not permitted\n1\n":
        sys.exit(f"not by root: {said}")
    end(p)


# ---- small things -------------------------------------------------------------------------------------

def partitions_and_orders():
    port = free_port()
    with open(image_file("s.img"), "r+b") as f:
        f.write(bytes(512))
        f.seek(446)
        f.write(bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little"))
        f.seek(510)
        f.write(b"\x55\xaa")
    p = ours("s.img", port)
    for ioctl in "", "-L ":
        m.run(f"xnbd-client {ioctl}{HOST} {port} /dev/nbd0 && [ $(cat /sys/block/nbd0/nbd0p1/size) = 4096 ]")
        client("-d /dev/nbd0")
        gone("nbd0")
    for words, timer in ("", 30000), ("--persist ", 5000), ("--persist --timeout 60 ", 60000), ("--persist -m 2 ", 30000):
        m.run(f"xnbd-client {words}{HOST} {port} /dev/nbd0 && [ $(cat /sys/block/nbd0/queue/io_timeout) = {timer} ] && xnbd-client -d /dev/nbd0")
        gone("nbd0")
    m.run(f"xnbd-client --nofork {HOST} {port} /dev/nbd0 & until_true 300 xnbd-client -c /dev/nbd0 && xnbd-client -d /dev/nbd0 && wait $!")
    m.run(f"xnbd-client --recovery-command 'xnbd-client -c /dev/nbd0; echo $? >/run/recovered' {HOST} {port} /dev/nbd0")
    end(p)
    m.run("until_true 300 grep 2 /run/recovered")


# ---- a server that comes and goes ---------------------------------------------------------------------

def persist():
    ports = [free_port() for _ in range(3)]
    images = [f"{i}.img" for i in range(2)]
    for name in images:
        make_ext4(name, SIZE)
    servers = [ours(name, port) for name, port in zip(images, ports)]
    orders = [f"--persist --swap -C /dev/nbd0 {HOST} {ports[0]} {HOST} {ports[2]}", f"-p -m 4 -C /dev/nbd1 {HOST} {ports[1]}"]
    for i, order in enumerate(orders):
        client(order)
        m.run(f"mkdir -p /f{i} && mount -t ext4 /dev/nbd{i} /f{i} && (fsload /f{i} {i} >/run/fsload{i} 2>&1 & echo $! >/run/pid{i})")
    m.run(OWNER)
    # The child that has the partitions read has the same name.
    m.run("is_one() { [ $(owner /dev/nbd0 | wc -w) = 1 ]; }; until_true 300 is_one && p=/proc/$(owner /dev/nbd0) && grep VmLck $p/status | grep -qv ' 0 kB' && grep -qx -- -1000 $p/oom_score_adj")

    def away(*which):
        for i in which:
            end(servers[i])
        time.sleep(rng.uniform(1, 3))

    def go_on():
        """Both disks get writes again."""
        for i in range(2):
            at = m.run(f"awk '{{print $7}}' /sys/block/nbd{i}/stat").strip()
            m.run(f"goes_on() {{ [ $(awk '{{print $7}}' /sys/block/nbd{i}/stat) -gt {at} ]; }}; until_true 300 goes_on")

    away(0, 1)
    image_file("other.img", SIZE - 4096)
    wrong = ours("other.img", ports[0])  # another disk is not taken
    m.run("until_true 300 sh -c 'dmesg | grep -q \"another size than that of the device\"'")
    end(wrong)
    servers[:] = [ours(name, port) for name, port in zip(images, ports)]
    go_on()
    m.run(f"all_four() {{ [ $(grep -c ' [0-9A-F]*:{ports[1]:04X} 01 ' /proc/net/tcp) = 4 ]; }}; until_true 300 all_four")
    # The process may be killed, too, and begin again. Then the disk is elsewhere.
    m.run("kill -9 $(owner /dev/nbd0)")
    away(0)
    m.run(f"xnbd-client --retry 0 {orders[0]} 2>/dev/null &")
    time.sleep(1)
    servers[0] = ours(images[0], ports[2])
    go_on()
    for i in range(2):
        m.run(f"kill $(cat /run/pid{i}) && until_true 300 sh -c '! [ -e /proc/$(cat /run/pid{i}) ]'")
        said = m.run(f"cat /run/fsload{i}")
        if " is wrong" in said or "right after" not in said:
            sys.exit(f"the user of file system {i}: {said}")
        m.run(f"umount /f{i} && mount -t ext4 /dev/nbd{i} /f{i} && umount /f{i} && xnbd-client -d /dev/nbd{i}")
    gone("nbd0", "nbd1")
    m.run("no_owner() { [ ! \"$(owner /dev/nbd.)\" ]; }; until_true 300 no_owner")
    for p in servers:
        p.terminate()
        p.wait()
    for name in images:
        if subprocess.run(["e2fsck", "-fn", name], capture_output=True).returncode:
            sys.exit(f"{name} is not clean")


def taken_over():
    """By a process of the same server and export alone, however long its name is, and if it may write as before."""
    port = free_port()
    p = start(f"nbdkit -f -i 127.0.0.1 -p {port} memory 1M", port)
    common = f"--persist -C /dev/nbd0 {HOST} {port} -N {'x' * 200}"
    m.run(OWNER)
    client(f"{common}1")
    m.run("kill -9 $(owner /dev/nbd0)")
    says(f"'/dev/nbd0' is connected already, by process {m.run('xnbd-client -c /dev/nbd0').strip()}", f"{common}2")
    said = m.run(f"xnbd-client --readonly {common}1 || true")
    if "'/dev/nbd0' cannot be taken over: it is read-only now" not in said:
        sys.exit(f"--readonly: {said}")
    client(f"{common}1")
    client("-d /dev/nbd0")
    gone("nbd0")
    end(p)


def persist_on_nbd0():
    """A server, and a process that keeps /dev/nbd0 at it. Returns the server, and what starts it again."""
    port = free_port()

    def again():
        return start(f"nbdkit -f -i 127.0.0.1 -p {port} memory 1M", port)

    p = again()
    m.run(OWNER)
    client(f"--persist --connect /dev/nbd0 {HOST} {port} ")
    return p, again


def disconnected_while_lost():
    """And open: its process ends, although the server comes back."""
    p, again = persist_on_nbd0()
    m.run("exec 4</dev/nbd0")
    end(p)
    m.run("until_true 300 sh -c 'dmesg | grep -q \"nbd0. has lost a connection\"'; xnbd-client -d /dev/nbd0 2>/dev/null || true")
    p = again()
    m.run("no_owner() { [ ! \"$(owner /dev/nbd.)\" ]; }; until_true 300 no_owner && exec 4<&-")
    gone("nbd0")
    end(p)


def sysfs_elsewhere():
    """As after switch_root(8): the process stays, replaces its connection, and still sees the end of the device."""
    p, again = persist_on_nbd0()
    m.run("mkdir -p /s && mount --move /sys /s && sleep 5 && [ $(owner /dev/nbd0) -gt 1 ]")
    end(p)
    p = again()
    m.run("dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null && nbd-client -d /dev/nbd0")
    m.run("no_owner() { [ ! \"$(owner /dev/nbd.)\" ]; }; until_true 300 no_owner && mount --move /s /sys")
    end(p)


def lesser_servers():
    """In place of the first one: each is refused for what it lacks, and the device waits."""
    port, name = free_port(), image_file("s.img")
    kit = f"nbdkit -f -i 127.0.0.1 -p {port}"
    p = start(f"{kit} file {name}", port)
    client(f"--persist {HOST} {port} /dev/nbd0")
    policy = f"--filter=blocksize-policy file {name} blocksize-preferred=4096 blocksize-minimum"
    for words in f"--filter=nozero file {name}", f"{policy}=4096", f"{policy}=1 blocksize-maximum=65536":
        end(p)
        m.run("dmesg -c >/dev/null")
        p = start(f"{kit} {words}", port)
        m.run("until_true 300 sh -c 'dmesg | grep -q \"it can do less than the first server\"'")
        end(p)
        p = start(f"{kit} file {name}", port)
        m.run("until_true 300 sh -c 'dmesg | grep -q \"is connected again\"'")
    m.run("dd if=/dev/vda of=/dev/nbd0 bs=4096 count=1 conv=fsync 2>/dev/null && xnbd-client -d /dev/nbd0")
    gone("nbd0")
    end(p)


data = rng.randbytes(2 << 20)
with open("data.img", "wb") as f:
    f.write(data)
m = Machine("data.img", append="loglevel=7")
m.run("mkdir -p /etc && echo nobody:x:65534:65534::/:/bin/sh >/etc/passwd && echo nogroup:x:65534: >/etc/group")
steps = [each_server, refusals, partitions_and_orders, taken_over, disconnected_while_lost, sysfs_elsewhere, lesser_servers, persist]
for step in [s for s in steps if not sys.argv[2:] or s.__name__ in sys.argv[2:]]:
    begun = time.monotonic()
    if step is persist:
        m.run("dmesg -c >/dev/null")
    step()
    print(f"{step.__name__}: {time.monotonic() - begun:.1f} s", file=sys.stderr)
said = m.run("dmesg")
if trouble := re.findall(r".*(?:I/O error|EXT4-fs error|[Rr]emounting).*", said):
    sys.exit("\n".join(trouble))
m.run("rmmod nbd")
says("'/dev/nbd0' is not there: the kernel has no nbd devices: modprobe nbd", f"{HOST} 1 /dev/nbd0")
m.kill()
print("ok")
