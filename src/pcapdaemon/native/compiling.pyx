# cython: language_level=3
"""Compiles capture filters, those of strangers in a process of their own.

A filter may be too much for libpcap: names with thousands of addresses, hundreds of terms, deep
nesting. So whatever is not simple is compiled in a child that has little memory and time. If it
crashes or hangs, only this one filter is refused. The child only calls libpcap and the C library,
never Python.
"""

from libc.errno cimport errno
from libc.signal cimport SIGKILL
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, strncpy

from pcapdaemon.native.atomic cimport store_int
from pcapdaemon.native.clock cimport MILLISECOND, SECOND, clock_ns
from pcapdaemon.native.libpcap cimport *
from pcapdaemon.native.posix cimport *
from pcapdaemon.native.samples cimport agree

cdef enum:
    # Programs of at most this length are taken as they are. Longer ones are optimized, which
    # shortens them by up to ten times, but may be wrong.
    SHORT = 256
    CHILD_MEMORY = 256 << 20         # bytes that the child may have beyond what it was born with

cdef int64_t LONGEST = SECOND
cdef int64_t LONGEST_WITH_NAMES = 5 * SECOND


cdef void put(Compiled *out, const bpf_program *program) noexcept nogil:
    out.length = program.bf_len
    if program.bf_len > MOST_INSTRUCTIONS:
        out.state = TOO_LONG
        return
    memcpy(out.code, program.bf_insns, program.bf_len * sizeof(bpf_insn))
    store_int(&out.state, COMPILED)  # last, because this process may be ended at any moment

cdef void compile_here(
    pcap_t *pcap, const char *text, uint32_t netmask, Compiled *out
) noexcept nogil:
    """Compile in this process, into two places: as it is, and the optimized form if it is better.

    The optimizer is only trusted if samples show no difference.

    `netmask` is for `ip broadcast`, see pcap_compile(3pcap).
    """
    cdef bpf_program plain, optimized
    if pcap_compile(pcap, &plain, text, 0, netmask) != 0:
        strncpy(out.error, pcap_geterr(pcap), sizeof(out.error) - 1)
        out.state = REFUSED
        return
    put(out, &plain)
    if plain.bf_len > SHORT:
        if pcap_compile(pcap, &optimized, text, 1, netmask) == 0:
            if agree(&plain, &optimized):
                put(out + 1, &optimized)
            pcap_freecode(&optimized)
    pcap_freecode(&plain)

cdef void limit_this_process() noexcept nogil:
    cdef rlimit memory, seconds, none
    cdef sigset_t all_signals
    cdef long pages = 0
    cdef FILE *status
    sigfillset(&all_signals)
    sigprocmask(SIG_SETMASK, &all_signals, NULL)  # their handlers are Python's
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    status = fopen("/proc/self/statm", "r")
    if status != NULL:
        fscanf(status, "%ld", &pages)
        fclose(status)
    memory.rlim_cur = memory.rlim_max = pages * sysconf(_SC_PAGESIZE) + CHILD_MEMORY
    seconds.rlim_cur = seconds.rlim_max = LONGEST_WITH_NAMES // SECOND
    none.rlim_cur = none.rlim_max = 0
    if pages:
        setrlimit(RLIMIT_AS, &memory)
    setrlimit(RLIMIT_CPU, &seconds)
    setrlimit(RLIMIT_CORE, &none)

cdef void look_up_nothing() noexcept nogil:
    # A name service that does not exist. Numbers need none, and ports and protocols are in files.
    __nss_configure_lookup("hosts", "none")
    __nss_configure_lookup("networks", "none")
    __nss_configure_lookup("ethers", "none")

cdef int wait_for(int child, int64_t deadline) noexcept nogil:
    """Wait for a child, and kill it at the deadline (monotonic)."""
    cdef int status = 0
    cdef timespec pause
    pause.tv_sec, pause.tv_nsec = 0, MILLISECOND // 10
    while waitpid(child, &status, WNOHANG) == 0:
        if clock_ns(CLOCK_MONOTONIC) > deadline:
            kill(child, SIGKILL)
            waitpid(child, &status, 0)
            return ETIMEDOUT
        nanosleep(&pause, NULL)
        pause.tv_nsec = min(pause.tv_nsec * 3 // 2, 10 * MILLISECOND)
    return 0

cdef int compile_apart(
    pcap_t *pcap, const char *text, uint32_t netmask, bint names, Compiled *out
) noexcept nogil:
    """Compile in a child process. With `names`, it may look them up.

    Returns 0, or an errno: ETIMEDOUT if the child took too long, another if there can't be one. If
    the child did not end in time but had a result that was not optimized yet, that is the result.
    """
    cdef int64_t longest = LONGEST_WITH_NAMES if names else LONGEST
    cdef int outcome
    cdef void *memory = mmap(
        NULL, 2 * sizeof(Compiled), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0
    )
    if memory == MAP_FAILED:
        return errno
    cdef int child = fork()
    if child == 0:
        limit_this_process()
        if not names:
            look_up_nothing()
        compile_here(pcap, text, netmask, <Compiled *> memory)
        _exit(0)
    outcome = errno if child < 0 else wait_for(child, clock_ns(CLOCK_MONOTONIC) + longest)
    memcpy(out, memory, 2 * sizeof(Compiled))
    munmap(memory, 2 * sizeof(Compiled))
    return 0 if out.state != UNDONE else outcome
