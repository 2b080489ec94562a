/*
 * Size of pages compressed by ISA-L at level 0 with its static Huffman table: the yardstick of ci/isal.sh.
 *
 *     isal_ratio FILE.pages...
 *
 * Each page of 4096 bytes is a stream of its own: raw DEFLATE, window of 4 KiB. A page that does not shrink
 * counts 4096 bytes; a page that repeats one 8-byte word is left out. Prints "PAGES BYTES".
 */
#include <isa-l/igzip_lib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { PAGE = 4096 };

static unsigned long long pages, bytes;

/* Every stream is read back: a ratio of bytes that do not decode would say nothing. */
static int reads_back(uint8_t *stream, uint32_t len, const uint8_t *page)
{
	static struct inflate_state state;
	static uint8_t back[PAGE];

	isal_inflate_init(&state);
	state.crc_flag = ISAL_DEFLATE;
	state.next_in = stream;
	state.avail_in = len;
	state.next_out = back;
	state.avail_out = PAGE;
	return isal_inflate(&state) == ISAL_DECOMP_OK && state.total_out == PAGE && !memcmp(back, page, PAGE);
}

static int add(uint8_t *page)
{
	static struct isal_zstream stream;
	static uint8_t out[2 * PAGE];

	if (!memcmp(page, page + 8, PAGE - 8))
		return 0;
	isal_deflate_stateless_init(&stream);
	if (isal_deflate_set_hufftables(&stream, NULL, IGZIP_HUFFTABLE_STATIC) != COMP_OK)
		return -1;
	stream.level = 0;
	stream.gzip_flag = IGZIP_DEFLATE;
	stream.hist_bits = 12;
	stream.end_of_stream = 1;
	stream.flush = NO_FLUSH;
	stream.next_in = page;
	stream.avail_in = PAGE;
	stream.next_out = out;
	stream.avail_out = sizeof(out);
	if (isal_deflate_stateless(&stream) != COMP_OK || !reads_back(out, stream.total_out, page))
		return -1;
	pages++;
	bytes += stream.total_out < PAGE ? stream.total_out : PAGE;
	return 0;
}

int main(int argc, char **argv)
{
	static uint8_t page[PAGE];

	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");

		if (!file) {
			perror(argv[i]);
			return 1;
		}
		while (fread(page, 1, PAGE, file) == PAGE) {
			if (add(page)) {
				fprintf(stderr, "%s: ISA-L failed on a page\n", argv[i]);
				return 1;
			}
		}
		fclose(file);
	}
	printf("%llu %llu\n", pages, bytes);
	return 0;
}
