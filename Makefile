# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make help tells what there is.

VERSION := 1.0.0

# The same order of files, and the same messages, everywhere.
export LC_ALL := C

CROSS_COMPILE ?=
ifeq ($(origin CC),default)
CC := $(if $(CROSS_COMPILE),$(CROSS_COMPILE)gcc,musl-gcc)
endif
STRIP := $(CROSS_COMPILE)strip

PREFIX ?= /usr
prefix = $(PREFIX)
exec_prefix = $(prefix)
bindir = $(exec_prefix)/bin
sbindir = $(exec_prefix)/sbin
datarootdir = $(prefix)/share
datadir = $(datarootdir)
mandir = $(datarootdir)/man

# make O=DIR: all that is built goes to DIR, and its configuration is DIR/.config; nothing
# is written here. An empty O is none.
ifneq ($(and $(filter command,$(origin O)),$(strip $(O))),)
config := $(O)/.config
else
override O := build
config := .config
endif
# make V=1 shows the commands.
q := $(if $(V),,@)
say := @$(if $(findstring s,$(firstword -$(MAKEFLAGS))),:,echo)

# make SANITIZE=1: against the host's libc, with address and undefined behaviour
# sanitizers, into a directory of its own. SANITIZE=thread: with ThreadSanitizer.
ifdef SANITIZE
out := $(O)/sanitize$(if $(filter thread,$(SANITIZE)),/thread)
sanitizers := $(if $(filter thread,$(SANITIZE)),thread,address,undefined)
CC := $(if $(filter clang%,$(CC)),$(CC),gcc)
LINK := $(CC)
CFLAGS ?= -O1 -g -fsanitize=$(sanitizers) -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS ?= -fsanitize=$(sanitizers) -lpthread
else
out := $(O)
# What makes it smaller, of what this compiler knows; measured, it is as fast.
option = $(shell $(CC) -Werror $(1) -E -x c /dev/null -o /dev/null 2>/dev/null && echo $(1))
smaller := $(foreach o,-Oz -mno-sse -malign-data=abi -fno-split-wide-types -fno-caller-saves -fno-move-loop-invariants \
	-fno-tree-loop-im -fno-tree-dominator-opts -fno-tree-pre -fno-code-hoisting -fno-thread-jumps -fno-shrink-wrap,$(call option,$(o)))
# All of the program at once: 3 KB. clang's would need a linker of its own.
smaller += $(if $(filter clang%,$(notdir $(CC))),,$(foreach o,-flto=auto -flto-partition=one,$(call option,$(o))))
CFLAGS ?= -Os $(smaller) -fomit-frame-pointer -fno-asynchronous-unwind-tables -fno-stack-protector -fno-pie
LDFLAGS ?= -static -no-pie -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,norelro -Wl,-z,noexecstack \
	-Wl,-z,noseparate-code -Wl,-z,common-page-size=64 -Wl,--sort-section=alignment
# clang has no musl of its own: it takes the headers, and the link, of musl-gcc.
ifneq ($(filter clang%,$(notdir $(CC))),)
LINK := musl-gcc
musl_headers := $(shell echo | musl-gcc -E -v - 2>&1 | sed -n '/^\#include </,/^End/s|^ \(.*musl.*\)|\1|p')
CPPFLAGS += -nostdlibinc -isystem $(musl_headers)
else
LINK := $(CC)
endif
endif
warnings := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wpointer-arith -Wwrite-strings -Wundef -Wvla
flags = -std=gnu11 -D_FILE_OFFSET_BITS=64 $(if $(SANITIZE),,-DNDEBUG) $(warnings) -ffunction-sections -fdata-sections \
	-Iapplet -Iapplet/libbb -I$(O)/include $(CPPFLAGS) $(cflags) $(WERROR)

# What is built: lib-y from the //kbuild: lines; a directory stands for its files.
lib-y :=
links-y :=
not_building := help clean distclean dist deb recipes %config
in_tree := demo lint check check-all check-unit fuzzers fuzz mutants random busybox busybox-patches bench bloat sim-coverage check-vm demo-vm interop-table
ifneq ($(O),build)
ifneq ($(filter $(in_tree),$(MAKECMDGOALS)),)
$(error 'make $(filter $(in_tree),$(MAKECMDGOALS))' works in the source tree: without O=)
endif
endif
ifneq ($(filter $(not_building),$(MAKECMDGOALS)),)
ifneq ($(filter-out $(not_building),$(MAKECMDGOALS)),)
$(error 'make $(filter $(not_building),$(MAKECMDGOALS))' first, the rest in a command of its own)
endif
endif
ifeq ($(filter $(not_building),$(MAKECMDGOALS)),)
-include $(O)/objects.mk
endif

# CFLAGS and LDFLAGS replace, EXTRA_CFLAGS and EXTRA_LDFLAGS add; those of .config come before.
cflags = $(CFLAGS) $(hardening) $(CONFIG_EXTRA_CFLAGS) $(EXTRA_CFLAGS)
ldflags = $(LDFLAGS) $(CONFIG_EXTRA_LDFLAGS) $(EXTRA_LDFLAGS)
ifndef SANITIZE
hardening := $(if $(CONFIG_STACK_PROTECTOR),-fstack-protector-strong) $(if $(CONFIG_STATIC_PIE),-fPIE)
ifdef CONFIG_STATIC_PIE
ldflags = $(filter-out -static -no-pie %norelro %common-page-size=64,$(LDFLAGS)) -Wl,-z,relro,-z,now $(static_pie) \
	$(CONFIG_EXTRA_LDFLAGS) $(EXTRA_LDFLAGS)
ifneq ($(filter musl-gcc,$(notdir $(LINK))),)
# musl-gcc's specs know no -static-pie: what gcc would do for it.
musl_lib := $(patsubst %/Scrt1.o,%,$(shell musl-gcc -\#\#\# x.o 2>&1 | grep -o '[^ "]*/Scrt1.o'))
startfiles := $(musl_lib)/rcrt1.o $(musl_lib)/crti.o
static_pie := -nostartfiles -static -Wl,-pie,--no-dynamic-linker,-z,text $(musl_lib)/crtn.o
else
static_pie := -static-pie
endif
endif
endif

sources = applet/main.c $(sort $(wildcard applet/libbb/*.c)) \
	$(patsubst %.o,applet/%.c,$(filter-out $(addsuffix %,$(filter %/,$(lib-y))),$(filter %.o,$(lib-y)))) \
	$(foreach dir,$(sort $(filter %/,$(lib-y))),$(sort $(wildcard applet/$(dir)*.c)))
objects = $(patsubst applet/%.c,$(out)/obj/%.o,$(sources))
# links-y: what the //applet: lines tell of each, as $(sbindir)/xnbd-server
applets = $(notdir $(links-y))

.PHONY: FORCE print-cflags all dist deb recipes install install-strip demo lint check check-all check-unit unit-tests fuzzers fuzz sim mutants random busybox busybox-patches bench bloat help clean distclean sim-coverage check-vm demo-vm interop-table
.DELETE_ON_ERROR:

strip_options := -s -R .comment -R .note.gnu.property
strip_all := $(or $(STRIP),true) $(strip_options)

all: $(out)/xnbdbox

$(out)/xnbdbox: $(out)/xnbdbox_unstripped
	$(say) "  STRIP   $@"
	@rm -f $@
	$(q)cp $< $@
	$(if $(SANITIZE),,$(q)$(strip_all) $@)
	@rm -f $(out)/xnbd-*
	@for applet in $(applets); do ln -sf xnbdbox $(out)/$$applet; done

$(out)/xnbdbox_unstripped: $(objects) $(O)/objects.mk $(out)/command
	$(say) "  LINK    $@"
	$(q)$(LINK) $(cflags) -o $@ $(startfiles) $(objects) $(ldflags)

# Who includes which of the generated headers is in the .d files.
$(out)/obj/%.o: applet/%.c $(out)/command Makefile | $(addprefix $(O)/include/,autoconf.h applets.h usage.h version.h)
	@mkdir -p $(dir $@)
	$(say) "  CC      $@"
	$(q)$(CC) $(flags) -MMD -MP -c -o $@ $<

# What builds it: when that changes, all is built anew. Whether warnings are errors changes nothing.
command := $(shell $(CC) --version 2>/dev/null | head -n 1) $(filter-out $(WERROR),$(flags)) $(LINK) $(ldflags) $(STRIP)
$(out)/command: FORCE
	@mkdir -p $(dir $@)
	@echo '$(subst ','\'',$(command))' | cmp -s - $@ || echo '$(subst ','\'',$(command))' >$@

-include $(wildcard $(out)/obj/*.d $(out)/obj/*/*.d)

# ---- configuration -------------------------------------------------------------

$(config):
	@mkdir -p $(dir $@)
	@cp config/full_defconfig $@

# The whole menu.
$(O)/Config.in: Kconfig $(wildcard applet/*.c applet/*/*.c) config/generate
	@config/generate kconfig $(O)
	@touch $@

# A file that has not changed keeps its time, so that not everything is built again;
# the stamp tells that it was looked at.
generated := $(addprefix $(O)/,objects.mk include/autoconf.h include/applets.h include/usage.h include/version.h)
$(generated): $(O)/generated.stamp ;
$(O)/generated.stamp: Makefile $(config) Kconfig $(wildcard applet/*.c applet/*/*.c) config/generate
	@config/generate headers $(config) $(O)
	@touch $@

goals := menuconfig nconfig config oldconfig olddefconfig randconfig allnoconfig allyesconfig savedefconfig
.PHONY: $(goals) defconfig
$(goals): $(O)/Config.in
	@CONF='$(CONF)' MCONF='$(MCONF)' NCONF='$(NCONF)' KCONFIG_CONFIG=$(config) config/kconfig.sh $@ $<
defconfig: full_defconfig
# Complete, so that no tool is needed.
%_defconfig: config/%_defconfig
	@mkdir -p $(dir $(config))
	cp $< $(config)

# ---- installation ------------------------------------------------------------------

# xnbdbox as it was built; install-strip: stripped in any case, also after STRIP=true.
install: all
	install -D -m 755 $(out)/xnbdbox $(DESTDIR)$(bindir)/xnbdbox
	for link in $(links-y); do \
		up= && dir=$${link%/*} && common=$$dir && \
		while case $(bindir)/ in "$$common"/*) false ;; esac; do common=$${common%/*} up=../$$up; done && \
		mkdir -p $(DESTDIR)$$dir && path=$(bindir)/xnbdbox && \
		ln -sf $$up$${path#"$$common"/} $(DESTDIR)$$link || exit 1; \
	done
	$(if $(CONFIG_FEATURE_XNBD_SERVER_INIT),install -D -m 755 config/initramfs/init $(DESTDIR)$(datadir)/xnbdbox/init)
	$(if $(CONFIG_FEATURE_XNBD_SERVER_INIT),install -D -m 755 config/xnbd-migrate $(DESTDIR)$(sbindir)/xnbd-migrate)
	$(if $(CONFIG_FEATURE_XNBD_SERVER_INIT),install -D -m 644 config/initramfs/devices $(DESTDIR)$(datadir)/xnbdbox/devices)
	for page in man/xnbdbox.1 $(if $(CONFIG_FEATURE_XNBD_SERVER_INIT),man/xnbd-migrate.7 man/xnbd-migrate.8) $(foreach applet,$(applets),$(wildcard man/$(applet).*)); do \
		mkdir -p $(DESTDIR)$(mandir)/man$${page##*.} && \
		config/generate man $$page $(config) >$(DESTDIR)$(mandir)/man$${page##*.}/$${page##*/} || exit 1; \
	done
install-strip: install
	$(CROSS_COMPILE)strip $(strip_options) $(DESTDIR)$(bindir)/xnbdbox

# ---- release --------------------------------------------------------------------------

# What is committed; the same bytes from each clone.
tarball := xnbdbox-$(VERSION).tar
dist:
	@[ -e .git ] || { echo 'make dist: this is not a clone' >&2; exit 1; }
	@[ -z "$$(git status --porcelain --untracked-files=no)" ] || echo 'make dist: changes that are not committed are not in it' >&2
	@mkdir -p $(O)
	git -c tar.umask=0022 archive --format=tar --prefix=xnbdbox-$(VERSION)/ HEAD >$(O)/$(tarball)
	gzip -9nf $(O)/$(tarball)
	cd $(O) && sha256sum $(tarball).gz >$(tarball).gz.sha256

# Debian packages of what is committed, in build/debian.
deb: dist
	rm -rf $(O)/debian
	mkdir -p $(O)/debian
	cp $(O)/$(tarball).gz $(O)/debian/xnbdbox_$(VERSION).orig.tar.gz
	tar -xf $(O)/$(tarball).gz -C $(O)/debian
	cp -r config/debian $(O)/debian/xnbdbox-$(VERSION)/debian
	cd $(O)/debian/xnbdbox-$(VERSION) && dpkg-buildpackage -us -uc

# make recipes URL=DIRECTORY: for Alpine, Buildroot and OpenWrt, of the tarball of that directory.
recipes: dist
	config/recipes.sh $(O)/$(tarball).gz $(O)/recipes $(URL)

# ---- tests ----------------------------------------------------------------------------

# Unit tests and simulator run with sanitizers, against the host's libc.
unit_cc := gcc -std=gnu11 $(warnings) -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
	-Iapplet -Iapplet/libbb -I$(O)/unit/include -Itests/unit
unit_tests := $(O)/unit/nbd_test $(O)/unit/core_test $(O)/unit/libbb_test $(O)/unit/loop_test $(O)/unit/pool_test $(O)/unit/sim \
	$(addprefix $(O)/unit/,tls_crypto_test tls_crypto32_test tls_test)

# They test everything, whatever .config leaves out.
$(O)/unit/include/autoconf.h: $(O)/unit/generated.stamp ;
$(O)/unit/generated.stamp: config/full_defconfig Kconfig $(wildcard applet/*.c applet/*/*.c) config/generate
	@config/generate headers config/full_defconfig $(O)/unit
	@touch $@

$(O)/unit/nbd_test: $(wildcard applet/nbd/*.c)
$(O)/unit/core_test: $(wildcard applet/core/*.c) applet/nbd/wire.c applet/nbd/zeroes.c
$(O)/unit/libbb_test: $(wildcard applet/libbb/*.c)
$(O)/unit/loop_test: applet/reactor/loop.c $(wildcard applet/libbb/*.c)
$(O)/unit/pool_test: $(addprefix applet/reactor/,pool.c loop.c lock.c) applet/core/job.c $(wildcard applet/libbb/*.c)
tls_crypto := $(addprefix applet/tls/,chacha20.c chacha20_poly1305.c poly1305.c sha256.c x25519.c)
$(O)/unit/tls_crypto_test $(O)/unit/tls_crypto32_test: $(tls_crypto) $(wildcard tests/unit/vectors/*.h)
$(O)/unit/tls_test: $(wildcard applet/tls/*.c)
# The same with the limbs of 32-bit machines
$(O)/unit/tls_crypto32_test: tests/unit/tls_crypto_test.c
$(O)/unit/tls_crypto32_test: unit_cc += -DTLS_LIMB_BITS=32
$(filter-out %/tls_crypto32_test,$(filter %_test,$(unit_tests))): $(O)/unit/%: tests/unit/%.c
$(filter %_test,$(unit_tests)): $(wildcard applet/*/*.h tests/unit/*.h) $(O)/unit/include/autoconf.h
	@mkdir -p $(dir $@)
	$(say) "  CC      $@"
	$(q)$(unit_cc) -o $@ $(filter %.c,$^)

# The simulator: the core with limits drawn by chance (core/limits.h) and counted memory.
sim_cc := $(unit_cc) -O2 -include tests/sim/limits.h
sim_core := $(patsubst applet/core/%.c,$(O)/unit/sim_core/%.o,$(wildcard applet/core/*.c))

$(sim_core): $(O)/unit/sim_core/%.o: applet/core/%.c Makefile $(wildcard tests/sim/limits.h applet/core/*.h applet/nbd/*.h) $(O)/unit/include/autoconf.h
	@mkdir -p $(dir $@)
	$(say) "  CC      $@"
	$(q)$(sim_cc) -Dmalloc=sim_malloc '-Daligned_alloc(a,n)=sim_malloc(n)' -Dcalloc=sim_calloc -Dfree=sim_free -c -o $@ $<
sim_world := $(patsubst tests/sim/%.c,$(O)/unit/sim_world/%.o,$(wildcard tests/sim/*.c))
# What is around the core has its own checks, and is faster without sanitizers.
$(sim_world): $(O)/unit/sim_world/%.o: tests/sim/%.c Makefile $(wildcard tests/sim/*.h applet/core/*.h applet/nbd/*.h) $(O)/unit/include/autoconf.h
	@mkdir -p $(dir $@)
	$(say) "  CC      $@"
	$(q)$(sim_cc) -fno-sanitize=all -c -o $@ $<
# What a start makes of the files, with system calls that are the simulator's.
sim_storage := store store_create files header disk_switch identity holes paths cover
sim_files := $(patsubst %,$(O)/unit/sim_core/%.o,$(sim_storage))
$(sim_files): $(O)/unit/sim_core/%.o: applet/storage/%.c Makefile $(wildcard tests/sim/*.h applet/*/*.h) $(O)/unit/include/autoconf.h
	@mkdir -p $(dir $@)
	$(say) "  CC      $@"
	$(q)$(sim_cc) -include tests/sim/store_calls.h -c -o $@ $<
$(O)/unit/sim: $(sim_core) $(sim_world) $(sim_files) applet/nbd/wire.c applet/nbd/zeroes.c applet/reactor/descriptors.c
	$(say) "  LINK    $@"
	$(q)$(sim_cc) -o $@ $^

unit-tests: $(unit_tests)

# For tests that compile something as the program is
print-cflags:
	@echo '$(CFLAGS)'

fuzzers: $(O)/unit/include/autoconf.h
	@$(MAKE) -s $(if $(findstring jobserver,$(MAKEFLAGS)),,-j2) -f tests/fuzz/fuzz.mk

# make fuzz TIME=60: each fuzzer, so many seconds. TARGET=session: only this one.
fuzz:
	@config/setup.sh check
	@sh tests/fuzz/run.sh $(or $(TIME),60) $(TARGET)

# make sim SEEDS=5000: so many runs. make sim SEED=17: one, and what happens in it.
# KEEP=LIST: only these of its steps.
sim: $(O)/unit/sim
	@$(O)/unit/sim $(if $(SEED),seed=$(SEED) $(if $(KEEP),keep=$(KEEP)),$(or $(SEEDS),1000))

# Lines of core/ and of the start that neither the simulator nor core_test reaches.
sim-coverage: $(O)/unit/include/autoconf.h
	@CC='$(filter-out -fsanitize% -fno-sanitize%,$(unit_cc))' STORAGE='$(sim_storage)' SEEDS=$(SEEDS) sh tests/sim/coverage.sh

mutants: $(O)/unit/include/autoconf.h
	@sh tests/sim/mutants.sh

demo:
	@config/setup.sh demo
	@$(MAKE) -s all
	@sh tests/demo.sh

lint:
	@config/setup.sh lint
	@sh tests/doc/lint.sh all

check-unit:
	@config/setup.sh check_unit
	@sh tests/check_unit.sh

check:
	@config/setup.sh check
	@sh tests/run.sh

check-all:
	@config/setup.sh check_all
	@SHARE=$(SHARE) sh tests/run.sh --all

# make check-vm ROUNDS=26 SEED=1: so many power cuts in each of its tests, by these dice.
# TEST=pressure SECONDS=600: only that test, and a long one
check-vm:
	@config/setup.sh check_vm
	@ROUNDS=$(ROUNDS) SEED=$(SEED) PRESSURE_SECONDS=$(SECONDS) sh tests/run.sh vm/$(TEST)

# What README.md has of the tables of tests/interop/README.
interop-table:
	@python3 tests/interop/table.py write

demo-vm:
	@config/setup.sh check_vm
	@$(MAKE) -s all
	@sh tests/vm/demo.sh

# make busybox BUSYBOX=DIR: xnbd-bgctl in a BusyBox source tree; then configure and build
# that one as usual.
busybox:
	@config/busybox.sh install $(BUSYBOX)
# The same as a series of patches, config/busybox/*.patch: after each change of these sources.
busybox-patches:
	@config/busybox.sh patches

# make random N=60 SEED=1: random configurations, with gcc and clang
random: all
	@N=$(N) SEED=$(SEED) sh tests/random.sh

# make bench ROWS=randread SECONDS=2 ROUNDS=3: of the rows, those with such names. QUICK=1: few.
bench:
	@config/setup.sh bench
	@$(MAKE) -s all
	@BENCH_ROWS='$(ROWS)' BENCH_SECONDS='$(SECONDS)' BENCH_ROUNDS='$(ROUNDS)' BENCH_QUICK='$(QUICK)' sh tests/bench/run.sh

# Bytes of each object file, without link-time optimisation, and of each feature. BASE=REV: what has changed since.
bloat: all
ifdef BASE
	@config/bloat.sh base $(BASE)
else
	@mkdir -p build/parts && cp $(config) build/parts/.config
	@$(MAKE) -s O=build/parts EXTRA_CFLAGS='$(EXTRA_CFLAGS) -fno-lto' all
	@cd build/parts/obj && size *.o */*.o | { read -r head; echo "$$head"; sort -rn; }
	@config/bloat.sh write
	@sed -n '/<!-- sizes -->/,/<!-- end of sizes -->/p' README.md | grep -v '^<!'
endif

# DIR of O=DIR may have other things in it.
clean:
	rm -rf $(if $(filter build,$(O)),build,$(addprefix $(O)/,obj include sanitize unit command generated.stamp objects.mk Config.in xnbdbox \
		xnbdbox_unstripped) $(wildcard $(O)/xnbd-*))
distclean: clean
	rm -f $(config) $(config).old $(dir $(config))defconfig

help:
	@echo 'make                  build/xnbdbox, and a link for each applet beside it'
	@echo 'make demo             moves a disk before your eyes (installs what it needs)'
	@echo 'make check-unit       what any user can test, without a network; 2 minutes of two processors'
	@echo 'make check            quick tests of the whole program, as root (installs what they need); 5 minutes'
	@echo 'make check-all        these, and all others in turn: with sanitizers, in virtual machines; 25 minutes'
	@echo '                      (SHARE=0 to 3: that quarter of those in turn; SHARE=all: all of them, 75 minutes)'
	@echo 'make lint             static analysis, all of it (make check has the quick part)'
	@echo 'make demo-vm          a machine boots from the network and moves onto its own disk'
	@echo 'make check-vm         power cuts and the kernel in a virtual machine (ROUNDS=26 SEED=1)'
	@echo 'make unit-tests       builds the unit tests and the simulator in build/unit'
	@echo 'make sim SEEDS=n      so many runs of the simulator; SEED=s: one, told line by line'
	@echo 'make fuzz TIME=60     each fuzzer of tests/fuzz so many seconds (TARGET=NAME: one)'
	@echo 'make sim-coverage     lines of core/ that no test of the core reaches'
	@echo 'make mutants          errors are made in what the simulator runs; each has to be found'
	@echo 'make bench            speed against others, in turns (QUICK=1, ROWS=NAME SECONDS=1 ROUNDS=3)'
	@echo 'make bloat            bytes of each part, and of each feature (BASE=REV: since then)'
	@echo 'make random N=60      so many random configurations, built and tested'
	@echo 'make busybox BUSYBOX=DIR   puts xnbd-bgctl into a BusyBox source tree'
	@echo 'make busybox-patches  config/busybox/*.patch: the same as patches'
	@echo 'make menuconfig       what is in (also nconfig, config, oldconfig, ...), by kconfig-frontends or Kconfiglib'
	@echo 'make NAME_defconfig   one of:' $(notdir $(wildcard config/*_defconfig))
	@echo 'make install          to DESTDIR and prefix (/usr); bindir, sbindir, datadir, mandir'
	@echo 'make install-strip    the same, stripped also when STRIP=true'
	@echo 'make dist             build/$(tarball).gz of what is committed, and its checksum'
	@echo 'make deb              build/debian: Debian packages of it (config/debian)'
	@echo 'make recipes          build/recipes: for Alpine, Buildroot and OpenWrt (URL=where the tarball will be)'
	@echo 'make clean, distclean'
	@echo 'make SANITIZE=1       build/sanitize/xnbdbox, with sanitizers'
	@echo 'make V=1              shows the commands'
	@echo 'make O=DIR            builds in DIR, by DIR/.config; also with install, the configurations, clean'
	@echo 'CC= CROSS_COMPILE= STRIP=             other tools (CC="ccache musl-gcc"; STRIP=true: not stripped)'
	@echo 'CFLAGS= LDFLAGS=      other flags; EXTRA_CFLAGS= EXTRA_LDFLAGS= further ones'
