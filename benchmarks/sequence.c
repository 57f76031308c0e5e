/* Reads a pcap file from stdin, and prints: frames, first number, last number, jumps (frames whose number does not follow
   the one before), and the times of the first and the last frame in microseconds. Knows nothing of how it was written. */
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    static uint8_t frame[262144];
    uint32_t head[4];
    uint64_t number = 0, first = 0, last = 0, frames = 0, jumps = 0, begin = 0, end = 0;
    if (fread(frame, 24, 1, stdin) != 1 || memcmp(frame, "\xd4\xc3\xb2\xa1", 4)) return fputs("no pcap file\n", stderr), 1;
    while (fread(head, 16, 1, stdin) == 1) {
        if (head[2] > sizeof frame || head[2] < 50 || fread(frame, head[2], 1, stdin) != 1) return fputs("torn\n", stderr), 1;
        memcpy(&number, frame + 42, 8);
        number = be64toh(number);
        end = head[0] * 1000000ull + head[1];
        if (!frames++) first = number, begin = end;
        else if (number != last + 1) jumps++;
        last = number;
    }
    printf("%lu %lu %lu %lu %lu %lu\n", frames, first, last, jumps, begin, end);
    return 0;
}
