# cython: language_level=3
"""Declarations of what the native modules use from the system.

See poll(2), clock_gettime(2), mmap(2), pthreads(7), packet(7).
"""

from libc.stdint cimport int64_t
from libc.stdio cimport FILE

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout)
    int POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *ts)
    int nanosleep(const timespec *duration, timespec *left)
    int CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_THREAD_CPUTIME_ID

cdef extern from "<sys/time.h>" nogil:
    struct timeval:
        int64_t tv_sec
        int64_t tv_usec

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int madvise(void *address, size_t length, int advice)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_SHARED, MAP_ANONYMOUS, MAP_POPULATE
    int MADV_DONTFORK, MADV_FREE
    void *MAP_FAILED

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_condattr_init(pthread_condattr_t *attributes)
    int pthread_condattr_setclock(pthread_condattr_t *attributes, int clock)
    int pthread_condattr_destroy(pthread_condattr_t *attributes)
    int pthread_cond_init(pthread_cond_t *condition, pthread_condattr_t *attributes)
    int pthread_cond_destroy(pthread_cond_t *condition)
    int pthread_cond_broadcast(pthread_cond_t *condition)
    int pthread_cond_timedwait(
        pthread_cond_t *condition, pthread_mutex_t *mutex, const timespec *until)

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
    int getsockname(int fd, sockaddr *address, socklen_t *length)
    int socket(int family, int kind, int protocol)
    int bind(int fd, const sockaddr *address, socklen_t length)
    long recv(int fd, void *buffer, size_t size, int flags)
    int SOL_SOCKET, SO_ERROR, SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_GET_FILTER
    int AF_INET, AF_INET6, AF_PACKET, AF_UNIX, AF_NETLINK
    int SOCK_DGRAM, SOCK_RAW, SOCK_CLOEXEC, SOCK_NONBLOCK, MSG_DONTWAIT
    struct sockaddr:
        unsigned short sa_family

cdef extern from "<netdb.h>" nogil:
    int getnameinfo(const sockaddr *address, socklen_t length, char *host, socklen_t size,
                    char *service, socklen_t service_size, int flags)
    int NI_NUMERICHOST

cdef extern from "<linux/filter.h>" nogil:
    struct sock_filter:
        pass
    struct sock_fprog:
        unsigned short len
        sock_filter *filter

cdef extern from "<linux/if_packet.h>" nogil:
    int PACKET_IGNORE_OUTGOING
    struct sockaddr_ll:
        unsigned short sll_family
        int sll_ifindex

cdef extern from "<linux/netlink.h>" nogil:
    struct sockaddr_nl:
        unsigned short nl_family
        unsigned int nl_groups
    int NETLINK_ROUTE

cdef extern from "<net/if.h>" nogil:
    unsigned int if_nametoindex(const char *name)
    char *if_indextoname(unsigned int index, char *name)
    struct ifreq:
        char ifr_name[16]
        short ifr_flags
        int ifr_ifindex
    int IF_NAMESIZE, IFF_UP

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)
    int SIOCGIFFLAGS, SIOCGIFNAME

cdef extern from "<unistd.h>" nogil:
    int fork()
    long sysconf(int name)
    int _SC_PAGESIZE
    void _exit(int status)
    int close(int fd)

cdef extern from "<sched.h>" nogil:
    int setns(int fd, int kind)
    int CLONE_NEWNET

cdef extern from "<sys/wait.h>" nogil:
    int waitpid(int child, int *status, int options)
    int WNOHANG

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int kill(int process, int number)
    int sigfillset(sigset_t *signals)
    int sigprocmask(int how, const sigset_t *signals, sigset_t *before)
    int SIG_SETMASK

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, ...)
    int PR_SET_PDEATHSIG

cdef extern from "<sys/resource.h>" nogil:
    struct rlimit:
        unsigned long rlim_cur
        unsigned long rlim_max
    int setrlimit(int resource, const rlimit *limit)
    int RLIMIT_AS, RLIMIT_CPU, RLIMIT_CORE

cdef extern from "<nss.h>" nogil:
    int __nss_configure_lookup(const char *database, const char *services)

cdef extern from "<errno.h>" nogil:
    int ETIMEDOUT

cdef extern from "<stdio.h>" nogil:
    FILE *fopen(const char *path, const char *mode)
    int fscanf(FILE *file, const char *form, ...)
    int fclose(FILE *file)
    FILE *open_memstream(char **buffer, size_t *size)
    FILE *fdopen(int fd, const char *mode)
