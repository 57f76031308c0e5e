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
    int POLLIN, POLLERR, POLLHUP, POLLNVAL

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *ts)
    int CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_THREAD_CPUTIME_ID

cdef extern from "<sys/time.h>" nogil:
    struct timeval:
        int64_t tv_sec
        int64_t tv_usec

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_POPULATE
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
    int SOL_SOCKET, SO_ERROR, AF_INET, AF_INET6
    struct sockaddr:
        unsigned short sa_family

cdef extern from "<netdb.h>" nogil:
    int getnameinfo(const sockaddr *address, socklen_t length, char *host, socklen_t size,
                    char *service, socklen_t service_size, int flags)
    int NI_NUMERICHOST

cdef extern from "<linux/if_packet.h>" nogil:
    int PACKET_IGNORE_OUTGOING

cdef extern from "<net/if.h>" nogil:
    unsigned int if_nametoindex(const char *name)

cdef extern from "<stdio.h>" nogil:
    FILE *open_memstream(char **buffer, size_t *size)
    FILE *fdopen(int fd, const char *mode)
