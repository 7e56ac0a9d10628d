# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The fuzzers: build/fuzz/NAME. From the top, by make fuzzers.

# COVERAGE=1: such that llvm-cov tells what they reach, into a directory of their own:
#   make -f tests/fuzz/fuzz.mk COVERAGE=1
#   LLVM_PROFILE_FILE=raw build/fuzz/coverage/session -runs=0 tests/fuzz/corpus/session
#   llvm-profdata merge -o data raw
#   llvm-cov report build/fuzz/coverage/session -instr-profile=data
out := build/fuzz$(if $(COVERAGE),/coverage)
coverage := $(if $(COVERAGE),-fprofile-instr-generate -fcoverage-mapping)
targets := session control origin files handover bgctl server_handshake client_handshake tls_server tls_client database
# Without _FILE_OFFSET_BITS=64: glibc's headers would give fuzz_mmap() and fuzz_pwrite() the names mmap64 and pwrite64.
flags := -std=gnu11 -g -O1 -Wall -Wextra -Werror -MMD -MP -Iapplet -Iapplet/libbb -Ibuild/unit/include \
	-Itests/fuzz

# What is under test: all of applet/ but threads and main(). What it asks libc
# for goes through world.c. The commit's memory is made small, as in the simulator.
through := malloc calloc aligned_alloc strdup free exit epoll_wait clock_gettime read write pwrite fdatasync connect \
	getaddrinfo getcwd mmap munmap vfork isatty ioctl sched_getaffinity
space := $(subst ,, )
tested := $(filter-out applet/main.c applet/reactor/pool.c applet/reactor/log.c,$(wildcard applet/*.c applet/*/*.c))
tested_flags := $(flags) -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	$(foreach f,$(through),-D$f=fuzz_$f) -DCOMMIT_CHUNKS_MAX=4 -include tests/fuzz/globals.h \
	$(coverage)
objects := $(patsubst %.c,$(out)/obj/%.o,$(tested) tests/fuzz/pool.c)

# fuzz_aligned_alloc() aligns nothing.
$(out)/obj/applet/core/core.o: tested_flags += -fno-sanitize=alignment

# Not each comparison of a checksum's loop is worth a note.
$(out)/obj/applet/core/state.o: tested_flags += -fno-sanitize-coverage=trace-cmp

# Ciphers have unit tests with sanitizers; here they are to be fast.
$(patsubst %,$(out)/obj/applet/tls/%.o,chacha20 chacha20_poly1305 poly1305 sha256 x25519): tested_flags := $(flags) -O2

# The world around it, which may look everywhere.
world := $(patsubst %,$(out)/obj/tests/fuzz/%.o,world script channel origin_peer client_check tls_life)

all: $(addprefix $(out)/,$(targets))

$(objects): $(out)/obj/%.o: %.c tests/fuzz/fuzz.mk
	@mkdir -p $(dir $@)
	clang $(tested_flags) -c -o $@ $<

$(world) $(patsubst %,$(out)/obj/tests/fuzz/%.o,$(targets)): $(out)/obj/%.o: %.c tests/fuzz/fuzz.mk
	@mkdir -p $(dir $@)
	clang $(flags) -fno-builtin -c -o $@ $<

# Archives, so that each fuzzer has only what it needs.
$(out)/tested.a: $(objects)
	@rm -f $@
	ar rcs $@ $^
	@! nm -u $@ 2>&1 | grep -wE '($(subst $(space),|,$(strip $(through))))(64)?' || { rm -f $@; echo "these do not go through world.c" >&2; exit 1; }
$(out)/world.a: $(world)
	@rm -f $@
	ar rcs $@ $^

$(addprefix $(out)/,$(targets)): $(out)/%: $(out)/obj/tests/fuzz/%.o $(out)/world.a $(out)/tested.a
	clang -fsanitize=fuzzer,address,undefined $(coverage) -o $@ $^

-include $(wildcard $(out)/obj/*/*.d $(out)/obj/*/*/*.d)
