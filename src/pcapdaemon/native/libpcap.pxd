# cython: language_level=3
"""Declarations of what the native modules use from libpcap; see pcap(3pcap)."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport FILE

from pcapdaemon.native.posix cimport sockaddr, timeval

cdef extern from "<pcap/pcap.h>" nogil:
    ctypedef struct pcap_t:
        pass
    ctypedef struct pcap_dumper_t:
        pass
    struct bpf_insn:
        unsigned short code
        uint8_t jt
        uint8_t jf
        uint32_t k
    struct bpf_program:
        unsigned int bf_len
        bpf_insn *bf_insns
    struct pcap_pkthdr:
        timeval ts
        uint32_t caplen
        uint32_t len
    struct pcap_stat:
        unsigned int ps_recv
        unsigned int ps_drop
        unsigned int ps_ifdrop
    struct pcap_addr:
        pcap_addr *next
        sockaddr *addr
        sockaddr *netmask
    ctypedef struct pcap_if_t:
        pcap_if_t *next
        char *name
        char *description
        pcap_addr *addresses
        uint32_t flags
    ctypedef void (*pcap_handler)(
        uint8_t *user, const pcap_pkthdr *header, const uint8_t *data) noexcept
    pcap_t *pcap_create(const char *device, char *error)
    int DLT_EN10MB
    pcap_t *pcap_open_dead(int dlt, int snaplen)
    pcap_t *pcap_fopen_offline_with_tstamp_precision(
        FILE *file, unsigned int precision, char *error)
    int pcap_next_ex(pcap_t *p, pcap_pkthdr **header, const uint8_t **data)
    int pcap_set_snaplen(pcap_t *p, int snaplen)
    int pcap_set_promisc(pcap_t *p, int promisc)
    int pcap_set_timeout(pcap_t *p, int milliseconds)
    int pcap_set_buffer_size(pcap_t *p, int size)
    int pcap_set_tstamp_precision(pcap_t *p, int precision)
    int pcap_activate(pcap_t *p)
    int pcap_setnonblock(pcap_t *p, int nonblock, char *error)
    int pcap_get_selectable_fd(pcap_t *p)
    int pcap_dispatch(pcap_t *p, int count, pcap_handler callback, uint8_t *user)
    void pcap_breakloop(pcap_t *p)
    int pcap_compile(
        pcap_t *p, bpf_program *program, const char *expression, int optimize, uint32_t netmask)
    int pcap_setfilter(pcap_t *p, bpf_program *program)
    void pcap_freecode(bpf_program *program)
    int pcap_stats(pcap_t *p, pcap_stat *stats)
    int pcap_datalink(pcap_t *p)
    int pcap_snapshot(pcap_t *p)
    const char *pcap_datalink_val_to_name(int dlt)
    pcap_dumper_t *pcap_dump_fopen(pcap_t *p, FILE *file)
    void pcap_dump_close(pcap_dumper_t *dumper)
    char *pcap_geterr(pcap_t *p)
    const char *pcap_statustostr(int status)
    void pcap_close(pcap_t *p)
    int pcap_findalldevs(pcap_if_t **devices, char *error)
    void pcap_freealldevs(pcap_if_t *devices)
    const char *pcap_lib_version()
    int PCAP_IF_LOOPBACK, PCAP_IF_UP
    int PCAP_ERROR, PCAP_ERROR_BREAK, PCAP_ERROR_NO_SUCH_DEVICE, PCAP_ERROR_PERM_DENIED
    int PCAP_ERROR_PROMISC_PERM_DENIED, PCAP_ERROR_IFACE_NOT_UP
    uint32_t PCAP_NETMASK_UNKNOWN
    int PCAP_TSTAMP_PRECISION_NANO
    unsigned int bpf_filter(
        const bpf_insn *program, const uint8_t *data, unsigned int length, unsigned int captured)
