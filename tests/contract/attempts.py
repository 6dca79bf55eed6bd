"""What a hostile program tries inside a real container, and what comes of it. Each does no harm, should it succeed."""

PRELUDE = r"""
import ctypes, errno, fcntl, mmap, os, shutil, signal, socket, stat, struct, subprocess
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    "A system call by number, as x86_64 has them."
    ctypes.set_errno(0)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "done"

def read(path):
    with open(path, "rb") as file:
        return file.read(64)

def open_to_write(path):
    "And no more, should it succeed."
    os.close(os.open(path, os.O_WRONLY))
    return "opened"

def write(path, data=b"x"):
    with open(path, "wb", buffering=0) as file:
        file.write(data)
    return "written"

def those(action, items):
    "Of the items, the ones that it could be done to."
    tried, done = list(items), []
    if not tried:
        raise LookupError("nothing to try it on")
    for item in tried:
        try:
            action(item)
        except OSError:
            continue
        done.append(item)
    return done

def processes():
    return [name for name in os.listdir("/proc") if name.isdigit()]

def descriptors(pid):
    "Of that process: the link in /proc of each, and what it leads to."
    try:
        links = [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
        return [(link, os.readlink(link)) for link in links]
    except OSError:
        return []

def connect(where):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(where)
    return "connected"

def low_page():
    "Memory that 32 bits can point at, and where it is."
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40
    page = mmap.mmap(-1, 4096, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    return page, ctypes.addressof(ctypes.c_char.from_buffer(page))

def by_32_bits(number, *arguments):
    "A system call by number, as i386 has them: mov eax, ebx, ecx and edx, int 0x80."
    loads = zip(b"\xb8\xbb\xb9\xba", (number, *arguments, 0, 0, 0))
    code = b"\x53" + b"".join(bytes([op]) + struct.pack("<I", value) for op, value in loads) + b"\xcd\x80\x5b\xc3"
    page, where = low_page()
    page.write(code)
    if (result := ctypes.CFUNCTYPE(ctypes.c_int)(where)()) < 0:
        raise OSError(-result, os.strerror(-result))
    return result

def socketcall(family, kind):
    "socket(), as i386 had it: by a pointer to what is asked for."
    page, where = low_page()
    page.write(struct.pack("<III", family, kind, 0))
    return by_32_bits(102, 1, where)

def ask_kernel(family, kind, body):
    "A message over netlink; what the kernel has against it."
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family) as sock:
        sock.settimeout(20)
        sock.send(struct.pack("=IHHII", 16 + len(body), kind, 5, 1, 0) + body)
        answer = sock.recv(4096)
    if struct.unpack_from("=H", answer, 4)[0] == 2 and (error := -struct.unpack_from("=i", answer, 16)[0]):
        raise OSError(error, os.strerror(error))
    return "done"

def as_another_user(*words):
    "What it says, or that it failed."
    done = subprocess.run(words, user=1000, group=1000, extra_groups=[], stdin=subprocess.DEVNULL, capture_output=True)
    return done.stdout.decode().strip() if done.returncode == 0 else "failed"

def beginning(pid):
    "Address of a process's first page, which is its program's."
    with open(f"/proc/{pid}/maps") as file:
        return int(file.readline().partition("-")[0], 16)

def peek(pid, address):
    "Four bytes of its memory, by process_vm_readv."
    found = ctypes.create_string_buffer(4)
    here = (ctypes.c_size_t * 2)(ctypes.addressof(found), 4)
    call(310, pid, here, 1, (ctypes.c_size_t * 2)(address, 4), 1, 0)
    return found.raw
"""

REFUSED: dict[str, tuple[str, str]] = {
    # Files of the host.
    "read `/etc/shadow`": ("read('/etc/shadow')", "FileNotFoundError"),
    "read a file in the host's `/root`": ("read(canary['root'])", "FileNotFoundError"),
    "read a file in the host's `/home`": ("read(canary['home'])", "FileNotFoundError"),
    "read a file in the host's `/tmp`": ("read(canary['tmp'])", "FileNotFoundError"),
    "read a file in the host's `/var`": ("read(canary['var'])", "FileNotFoundError"),
    "list the state directory": ("os.listdir(canary['state'])", "FileNotFoundError"),
    "climb out by `/proc/1/root`": ("read('/proc/1/root' + canary['tmp'])", "FileNotFoundError"),
    "climb out by a second `chroot`": (
        "os.mkdir('/c'), os.chroot('/c'), [os.chdir('..') for _ in range(64)], os.chroot('.'), read(canary['tmp'])",
        "FileNotFoundError",
    ),
    "write to the interpreter": ("write(os.path.realpath('/proc/self/exe'))", "OSError"),
    "write into every read-only mount": (
        """those(lambda where: write(where + '/x'), [line.split()[1] for line in open('/proc/self/mounts')
            if 'ro' in line.split()[3].split(',') and os.path.isdir(line.split()[1])])""",
        "[]",
    ),
    "make a read-only mount writable": ("call(165, b'', b'/usr', None, 32 | 4096, None)", "PermissionError"),
    "unmount one": ("call(166, b'/usr', 2)", "PermissionError"),
    # Processes.
    "see the host's processes": ("[pid for pid in os.listdir('/proc') if pid.isdigit() and int(pid) > 1000]", "[]"),
    "signal a process of the host": ("os.kill(canary['pid'], 0)", "ProcessLookupError"),
    "trace a process of the host": ("call(101, 16, canary['pid'], 0, 0)", "ProcessLookupError"),
    "read a host process's memory": ("read(f\"/proc/{canary['pid']}/mem\")", "FileNotFoundError"),
    "read it by `process_vm_readv`": ("peek(canary['pid'], 0x400000)", "PermissionError"),
    "get hold of a process of the host (`pidfd_open`)": ("os.pidfd_open(canary['pid'])", "ProcessLookupError"),
    "read its own supervisor's memory by `process_vm_readv`": ("peek(1, beginning(1))", "PermissionError"),
    "take its supervisor's descriptors (`pidfd_getfd`)": ("call(438, os.pidfd_open(1), 0, 0)", "PermissionError"),
    "kill its own supervisor": ("os.kill(1, signal.SIGKILL)", "None"),
    "change what its supervisor has noted": (
        "those(open_to_write, [link for link, path in descriptors(1) if path.endswith(('/notes', '.notes'))])",
        "[]",
    ),
    "keep its supervisor from seeing the worker end": (
        """those(open_to_write, [link for link, path in descriptors(1)
            if path.startswith('pipe:') and os.stat(link).st_uid != os.getuid()])""",
        "[]",
    ),
    # Other containers.
    "read another container's file": ("read('/tmp/mine')", "FileNotFoundError"),
    "find another container's secret in any environment": (
        "[pid for pid in os.listdir('/proc') if pid.isdigit() and canary['secret'] in read(f'/proc/{pid}/environ')]",
        "[]",
    ),
    "connect to another container's socket": ("connect('/tmp/socket')", "FileNotFoundError"),
    "connect to it by `/proc/*/root`": (
        "those(connect, [f'/proc/{pid}/root/tmp/socket' for pid in processes()])",
        "[]",
    ),
    "find it in `/proc/*/fd`": (
        "[link for pid in processes() for link, path in descriptors(pid) if path == canary['socket']]",
        "[]",
    ),
    "connect to a socket in the host's `/tmp`": ("connect(canary['tmp'] + '.sock')", "FileNotFoundError"),
    "use its token as a client's": ("speak(canary['hello'])", "Refused"),
    "speak with a token that it made up": ("speak(canary['made up'])", "Refused"),
    "list the containers": ("speak(canary['list'])", "closed"),
    "stop another container": ("speak(canary['stop'])", "closed"),
    "enter another container": ("speak(canary['enter'])", "closed"),
    "define a function": ("speak(canary['define'])", "closed"),
    "list the stored secrets": ("speak(canary['secrets'])", "closed"),
    "store a secret": ("speak(canary['put secret'])", "closed"),
    "end another app": ("speak(canary['end'])", "closed"),
    "end the server": ("speak(canary['shut down'])", "closed"),
    "speak for another container's input": ("speak(canary['results'])", "closed"),
    "call another app's function": ("speak(canary['call'])", "NotFoundError"),
    "add to another app's call": ("speak(canary['add'])", "NotFoundError"),
    "collect another app's result": ("speak(canary['collect'])", "NotFoundError"),
    "say nothing of the protocol to the server": ("speak(b'GET / HTTP/1.1' + bytes(64))", "closed"),
    # The kernel.
    "write to `/proc/sys`": ("write('/proc/sys/kernel/hostname')", "OSError"),
    "have core dumps handed to a program of its own": ("open_to_write('/proc/sys/kernel/core_pattern')", "OSError"),
    "have the kernel start a program of its own": (
        """those(open_to_write, ['/proc/sys/kernel/modprobe', '/proc/sys/kernel/hotplug', '/sys/kernel/uevent_helper',
            '/proc/sys/fs/binfmt_misc/register', '/proc/sys/kernel/poweroff_cmd'])""",
        "[]",
    ),
    "write to `/proc/sysrq-trigger`": ("open_to_write('/proc/sysrq-trigger')", "OSError"),
    "read `/proc/kcore`": ("read('/proc/kcore')", "b'' or FileNotFoundError"),
    "read `/proc/keys`": ("read('/proc/keys')", "b''"),
    "read the kernel's log": ("call(103, 3, None, 0)", "PermissionError"),
    "write to `/sys`": ("write('/sys/kernel/mm/ksm/run')", "OSError"),
    "write to a control group": ("write('/sys/fs/cgroup/cgroup.procs')", "OSError"),
    "have a control group's end start a program (`release_agent`)": (
        """those(open_to_write, ['/sys/fs/cgroup/release_agent', *(os.path.join(where, 'release_agent')
            for where, _, names in os.walk('/sys/fs/cgroup') if 'release_agent' in names)])""",
        "[]",
    ),
    "mount a control group hierarchy": ("call(165, b'x', b'/mnt', b'cgroup', 0, b'memory')", "PermissionError"),
    "mount a file system": ("call(165, b'x', b'/mnt', b'tmpfs', 0, None)", "PermissionError"),
    "mount a `/proc` without masks": ("call(165, b'x', b'/mnt', b'proc', 0, None)", "PermissionError"),
    "open a file system to mount (`fsopen`)": ("call(430, b'tmpfs', 0)", "PermissionError"),
    "copy a mount (`open_tree`)": ("call(428, -100, b'/usr', 1)", "PermissionError"),
    "move a mount (`move_mount`)": ("call(429, -100, b'/usr', -100, b'/mnt', 0)", "PermissionError"),
    "change a mount (`mount_setattr`)": ("call(442, -100, b'/usr', 0, bytes(32), 32)", "PermissionError"),
    "change its root (`pivot_root`)": ("call(155, b'/mnt', b'/mnt')", "PermissionError"),
    "open a disk": ("those(read, ['/dev/vda', '/dev/sda', '/dev/nvme0n1', '/dev/dm-0', '/dev/loop0'])", "[]"),
    "open the machine's memory, ports or log": (
        "those(read, ['/dev/mem', '/dev/kmem', '/dev/port', '/dev/kmsg'])",
        "[]",
    ),
    "make a disk's device node": ("os.mknod('/disk', 0o60660, os.makedev(8, 0))", "PermissionError"),
    "make a new user namespace": ("call(272, 0x10000000)", "PermissionError"),
    "make a new mount namespace": ("call(272, 0x20000)", "PermissionError"),
    "clone into a new user namespace": ("call(56, 0x10000000 | 17, None, None, None, 0)", "PermissionError"),
    "do so by `clone3`": ("call(435, struct.pack('8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)", "OSError"),
    "do so by a 32-bit system call (`int 0x80`)": ("by_32_bits(310, 0x10000000)", "PermissionError or killed"),
    "do so by an x32 system call": ("call(0x40000000 | 272, 0x10000000)", "PermissionError"),
    "mount by a 32-bit system call": ("by_32_bits(21)", "PermissionError or killed"),
    "make a refused socket by a 32-bit `socket`": ("by_32_bits(359, 38, 5, 0)", "PermissionError or killed"),
    "enter a namespace": ("call(308, os.open('/proc/1/ns/mnt', 0), 0)", "PermissionError"),
    "load a program into the kernel (`bpf`)": ("call(321, 0, None, 0)", "PermissionError"),
    "handle page faults (`userfaultfd`)": ("call(323, 0)", "PermissionError"),
    "reach the host of a virtual machine (`AF_VSOCK`)": ("socket.socket(40, socket.SOCK_STREAM)", "PermissionError"),
    "use the kernel's ciphers (`AF_ALG`)": ("socket.socket(38, socket.SOCK_SEQPACKET)", "PermissionError"),
    "see the network's packets (`AF_PACKET`)": ("socket.socket(17, socket.SOCK_RAW, 0)", "PermissionError"),
    "send packets of its own making (`SOCK_RAW`)": ("socket.socket(2, socket.SOCK_RAW, 1)", "PermissionError"),
    "change a network interface (netlink)": (
        "ask_kernel(0, 16, struct.pack('=BxHiII', 0, 0, 1, 0, 0))",
        "PermissionError",
    ),
    "change the packet filter (netlink)": ("ask_kernel(12, 10 << 8 | 16, struct.pack('=BBH', 2, 0, 0))", "OSError"),
    "set up `io_uring`": ("call(425, 1, None)", "PermissionError"),
    "count events (`perf_event_open`)": ("call(298, None, 0, -1, -1, 0)", "PermissionError"),
    "load a module": ("call(175, b'', 0, b'')", "PermissionError"),
    "load another kernel": ("call(246, 0, 0, None, 0)", "PermissionError"),
    "reboot": ("call(169, 0xfee1dead, 672274793, 0, None)", "PermissionError"),
    "set the clock": ("call(227, 0, ctypes.byref(ctypes.create_string_buffer(16)))", "PermissionError"),
    "add a key to a keyring": ("call(248, b'user', b'x', b'y', 1, -3)", "PermissionError"),
    "search a keyring": ("call(250, 10, -3, b'user', b'x', 0)", "PermissionError"),
    "open by handle": ("call(304, -100, None, 0)", "PermissionError"),
    "watch a whole file system (`fanotify`)": ("call(300, 0, 0)", "PermissionError"),
    "type into a terminal (`TIOCSTI`)": ("fcntl.ioctl(os.open('/dev/tty', os.O_RDWR), 0x5412, b' ')", "OSError"),
    "find a terminal of the host's": ("[name for name in os.listdir('/dev/pts') if name != 'ptmx']", "[]"),
    "get at ports (`iopl`)": ("call(172, 3)", "PermissionError"),
    "swap": ("call(167, b'/x', 0)", "PermissionError"),
    # Privileges.
    "gain privileges by a set-user-id program": (
        "[l for l in open('/proc/self/status') if l.startswith('NoNewPrivs')][0].split()[1]",
        "'1'",
    ),
    "become root by a set-user-id copy of `id`": (
        "shutil.copy('/usr/bin/id', '/tmp/id'), os.chmod('/tmp/id', 0o4755), as_another_user('/tmp/id', '-u')",
        "('/tmp/id', None, '1000')",
    ),
    "become root by `su`": ("as_another_user('/usr/bin/su', '-c', 'id -u')", "'failed'"),
    "mount by `mount`": ("as_another_user('/usr/bin/mount', '-t', 'tmpfs', 'x', '/mnt')", "'failed'"),
    "be filtered by nothing": (
        "[l for l in open('/proc/self/status') if l.startswith('Seccomp:')][0].split()[1]",
        "'2'",
    ),
    "be root of the host": ("open('/proc/self/uid_map').read().split()[1] == '0'", "False"),
}
"""What is tried, as an expression, and what comes of it: an exception's name (or a base of it), or the value."""

POSSIBLE: dict[str, tuple[str, str]] = {
    "read its own supervisor's memory (`/proc/1/mem`)": (
        "(file := open('/proc/1/mem', 'rb', buffering=0)).seek(beginning(1)) and file.read(4)",
        "b'\\x7fELF' or PermissionError",
    ),
    "write to its supervisor's memory": (
        "(file := open('/proc/1/mem', 'r+b', buffering=0)).seek(beginning(1)) and file.write(b'\\x7f')",
        "1 or OSError",
    ),
    "trace its own supervisor (`ptrace`)": ("call(101, 0x4206, 1, 0, 0)", "'done' or PermissionError"),
    "open its own output by `/proc/1/fd`": ("open_to_write('/proc/1/fd/1')", "'opened'"),
    "make a refused socket by a 32-bit `socketcall`": (
        "isinstance(socketcall(40, 1), int)",
        "True or OSError or killed",
    ),
    "connect to another container's abstract socket": ("connect(canary['abstract'])", "'connected'"),
    "take an abstract name of the host's": ("socket.socket(socket.AF_UNIX).bind(canary['free name'])", "None"),
    "list the host's sockets (`/proc/net/unix`)": ("canary['abstract'][1:] in open('/proc/net/unix').read()", "True"),
    "reach what listens on the host's 127.0.0.1": (
        "socket.create_connection(('127.0.0.1', canary['port']), 20).close()",
        "None",
    ),
}
"""What it can do, and may: to itself, and by the network that it shares with the host."""

WITHOUT_NETWORK = {
    "connect to another container's abstract socket": "ConnectionRefusedError",
    "list the host's sockets (`/proc/net/unix`)": "False",
    "reach what listens on the host's 127.0.0.1": "OSError",
}
"""What comes of some of these with ``block_network=True``."""
