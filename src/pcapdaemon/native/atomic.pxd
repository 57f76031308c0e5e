# cython: language_level=3
"""Memory words that several threads share.

Every access is a `load`, a `store` or an `add`.

A thread that loads a value also sees everything that the storing thread wrote before the `store`.
Counters that several threads increase at once are only changed with `add`.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef extern from *:
    """
    #define word_load(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
    #define word_store(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
    #define word_add(at, value) __atomic_add_fetch(at, value, __ATOMIC_RELAXED)
    """
    uint64_t load "word_load" (uint64_t *at) noexcept nogil
    int64_t load_time "word_load" (int64_t *at) noexcept nogil
    size_t load_size "word_load" (size_t *at) noexcept nogil
    int load_int "word_load" (int *at) noexcept nogil
    void store "word_store" (uint64_t *at, uint64_t value) noexcept nogil
    void store_time "word_store" (int64_t *at, int64_t value) noexcept nogil
    void store_size "word_store" (size_t *at, size_t value) noexcept nogil
    void store_int "word_store" (int *at, int value) noexcept nogil
    uint64_t add "word_add" (uint64_t *at, uint64_t value) noexcept nogil
    int add_int "word_add" (int *at, int value) noexcept nogil
