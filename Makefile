# Makefile - one file, no recursion into folders. `make help` lists what it can do.
#
# The layer table below is the architecture: a program or a unit-test binary links its layer and
# what USES names, nothing else, so that a call to a higher layer does not link.
# tests/tool/check_layers.sh holds the same table for #include lines.

VERSION := 0.1.0

# --- settings (`make help` explains them) -------------------------------------------------------
FLAVOR  ?= release
BUILD   ?= build/$(FLAVOR)
PREFIX  ?= /usr/local
DESTDIR ?=
WERROR  ?= 0
JSON    ?= 0
TFLAGS  ?=
WITHOUT ?=
FUZZ    ?=
FUZZ_SECONDS ?= 60
V       ?= 0
NVCC    ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA    ?= $(if $(NVCC),1,0)

# fuzz is what `make fuzz` uses: for clang, with entries of tests/fuzz in place of tests.
FLAVORS := release debug asan tsan fuzz
ifeq ($(filter $(FLAVOR),$(FLAVORS)),)
$(error FLAVOR=$(FLAVOR) is not known; use one of: $(FLAVORS))
endif
ifneq ($(words $(BUILD)),1)
$(error BUILD="$(BUILD)" has a space in it; give a path without one, or none)
endif

# A plain `make` uses every core; a -j on the command line wins.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DELETE_ON_ERROR:
.SUFFIXES:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

Q   := $(if $(filter 1,$(V)),,@)
say  = @echo "  $(1) $(2)"

# --- flags: nothing that changes numbers or ties the build to this machine ----------------------
OPT_release := -O3 -g
OPT_debug   := -O0 -g3
OPT_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
OPT_tsan    := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
OPT_fuzz    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined
OPT_fuzz    += -fsanitize=fuzzer-no-link -fno-sanitize-recover=all -DONESTEP_LIBFUZZER
# Which gcc says by itself.
OPT_fuzz    += -D__SANITIZE_ADDRESS__
WARN := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla
WARN += $(if $(filter 1,$(WERROR)),-Werror)

AR := ar
ifeq ($(FLAVOR),fuzz)
CC := clang-14
endif
ALL_CPPFLAGS := -I. -I$(BUILD) -D_GNU_SOURCE -DONESTEP_VERSION='"$(VERSION)"' $(CPPFLAGS)
ALL_CFLAGS   := -std=c11 -pthread $(WARN) $(OPT_$(FLAVOR)) $(CFLAGS)
ALL_LDFLAGS  := -pthread -Wl,--as-needed $(LDFLAGS)
ALL_LDFLAGS  += $(patsubst %=fuzzer-no-link,%=fuzzer,$(filter -fsanitize=%,$(OPT_$(FLAVOR))))

# --- layers, lowest first -----------------------------------------------------------------------
LAYERS := base proto common kernels op model sampler worker broker client

SRC_base    := $(wildcard common/base/*.c)
SRC_proto   := $(wildcard proto/*.c)
SRC_common  := $(wildcard common/*.c)
SRC_kernels := $(wildcard kernels/*.c kernels/ref/*.c kernels/cpu/*.c kernels/cuda/*.c)
SRC_op      := $(wildcard kernels/op/*.c)
SRC_model   := $(wildcard worker/model/*.c)
SRC_sampler := $(wildcard worker/sampler/*.c)
SRC_worker  := $(filter-out worker/main.c,$(wildcard worker/*.c))
SRC_broker  := $(filter-out broker/main.c,$(wildcard broker/*.c))
SRC_client  := $(filter-out client/main.c,$(wildcard client/*.c))

USES_proto   := base
USES_common  := proto base
USES_kernels := base
USES_op      := kernels base
USES_model   := op kernels base
USES_sampler := base
USES_worker  := model sampler op kernels common proto base
USES_broker  := common proto base
USES_client  := common proto base

# The outside libraries of each layer, by pkg-config name, and those that have no such name.
PKGS_base    := jansson
PKGS_proto   := libprotobuf-c
PKGS_common  := libzmq hiredis libcurl yaml-0.1 libcrypto libssl libmicrohttpd
PKGS_common  += libavformat libavcodec libavutil libswscale lcms2
LIBS_kernels := -ldnnl -ldl -lm
LIBS_op      := -lm
LIBS_model   := -lm
LIBS_sampler := -lm
LIBS_worker  := -lm
LIBS_common  := -lm
LIBS_base    := -lm

$(foreach l,$(LAYERS),$(if $(PKGS_$l),\
  $(eval CFLAGS_$l := $(shell pkg-config --cflags $(PKGS_$l) 2>/dev/null))\
  $(eval LIBS_$l += $(shell pkg-config --libs $(PKGS_$l) 2>/dev/null))))

# The reference computes exactly what the formula says; the fast kernels may fuse multiply and add.
FP := -ffp-contract=off
$(BUILD)/kernels/cpu/%: FP := -ffp-contract=fast

# --- generated sources --------------------------------------------------------------------------
PROTOS     := $(wildcard proto/*.proto)
PB_C       := $(patsubst %.proto,$(BUILD)/%.pb-c.c,$(PROTOS))
PB_H       := $(PB_C:.c=.h)
EMBED_C    := $(patsubst %,$(BUILD)/%.c,$(wildcard common/*.lua))

# The kernels for GPUs, one fat binary a source file; none without nvcc. sm_80 is every Ampere card,
# sm_89 Ada, sm_90 Hopper, and the PTX serves what comes later.
CU         := $(wildcard kernels/cuda/*.cu)
FATBINS    := $(if $(filter 1,$(CUDA)),$(CU:%.cu=$(BUILD)/%.fatbin))
NVCC_FLAGS := -std=c++17 -O3 -I. -Werror all-warnings
NVCC_OLDER := $(foreach a,80 89,-gencode arch=compute_$a,code=sm_$a)
NVCC_ARCHS := $(NVCC_OLDER) -gencode arch=compute_90,code=[sm_90,compute_90]
# wgmma is in sm_90a alone; for every other card the same file is an empty module.
NVCC_WGMMA := $(NVCC_OLDER) -gencode arch=compute_90a,code=sm_90a
NVCC_WGMMA += -gencode arch=compute_100,code=compute_100
BUILTIN_C  := $(BUILD)/kernels/cuda/cuda_builtin.c

# The same as text, for the interpreter of tests/ptx.
PTX        := $(FATBINS:.fatbin=.ptx)
PTX_TARGET := $(BUILD)/tests/ptx/ptx_target.c

GEN_kernels := $(BUILTIN_C).o
GEN_proto  := $(PB_C:%=%.o)
GEN_common := $(EMBED_C:%=%.o)

obj       = $(patsubst %,$(BUILD)/%.o,$(1))
lib       = $(BUILD)/lib$(1).a
layers_of = $(1) $(USES_$(1))
libs_of   = $(foreach l,$(call layers_of,$(1)),$(call lib,$l))
outside   = $(foreach l,$(call layers_of,$(1)),$(LIBS_$l))

# --- what is built ------------------------------------------------------------------------------
ONESTEP        := $(BUILD)/bin/onestep
PROGRAM_client := onestep
PROGRAM_broker := onestep-broker
PROGRAM_worker := onestep-worker
PROGRAMS := $(foreach l,client broker worker,$(if $(wildcard $l/main.c),$(BUILD)/bin/$(PROGRAM_$l)))

UNIT_LAYERS := $(foreach l,$(LAYERS),$(if $(wildcard tests/unit/$l/*.c),$l))
SRC_tool    := $(filter-out tests/tool/victim.c,$(wildcard tests/tool/*.c))
BENCHES     := $(patsubst tests/bench/%.c,%,$(wildcard tests/bench/bench_*.c))
MAKERS      := $(patsubst tests/bench/%.c,%,$(wildcard tests/bench/make_*.c))
LIBTEST     := $(BUILD)/libtest.a
SRC_ptx     := $(filter-out tests/ptx/test_%,$(wildcard tests/ptx/*.c))
LIBPTX      := $(BUILD)/libptx.a

# Name, sources, and the layer whose libraries are linked.
SRC_check_kern   := $(wildcard tests/kern/*.c)
SRC_check_ptx    := $(wildcard tests/ptx/test_*.c)
SRC_check_golden := $(wildcard tests/golden/*.c)
SRC_check_e2e    := $(wildcard tests/e2e/*.c)
SRC_check_sim    := $(filter-out tests/sim/prove_%,$(wildcard tests/sim/*.c))
SRC_check_storm  := $(filter-out tests/storm/prove_%,$(wildcard tests/storm/*.c))
SRC_test_tool    := $(wildcard tests/unit/tool/*.c)
$(foreach l,$(UNIT_LAYERS),$(eval SRC_test_$l := $(wildcard tests/unit/$l/*.c)))
LINK_check_kern   := op
LINK_check_ptx    := op
ALSO_check_kern   := $(LIBPTX)
ALSO_check_ptx    := $(LIBPTX)
ALSO_check_golden := $(LIBPTX)
LINK_check_golden := worker
LINK_check_e2e    := common
LINK_check_sim    := worker
LINK_check_storm  := common
LINK_test_tool    := base
LINK_bench_mailbox := base
LINK_bench_storage := common
LINK_bench_queue := common
$(foreach l,$(UNIT_LAYERS),$(eval LINK_test_$l := $l))

# tests/fuzz/LAYER/fuzz_*.c: each is a libFuzzer program of FLAVOR=fuzz, and together they are the
# suite replay_LAYER of the other flavours. Other files there help them.
FUZZ_LAYERS  := $(foreach l,$(LAYERS),$(if $(wildcard tests/fuzz/$l/*.c),$l))
FUZZ_ENTRIES := $(wildcard $(FUZZ_LAYERS:%=tests/fuzz/%/fuzz_*.c))
$(foreach l,$(FUZZ_LAYERS),$(eval LINK_replay_$l := $l)\
  $(eval FUZZ_HELP_$l := $(filter-out tests/fuzz/$l/fuzz_%,$(wildcard tests/fuzz/$l/*.c)))\
  $(eval SRC_replay_$l := tests/fuzz/fuzz.c $(wildcard tests/fuzz/$l/*.c)))

SUITES := $(foreach s,test_tool $(UNIT_LAYERS:%=test_%) $(FUZZ_LAYERS:%=replay_%)\
            check_ptx check_kern check_golden check_sim check_e2e check_storm,$(if $(SRC_$s),$s))
RUN    := $(filter-out $(WITHOUT),$(SUITES))
TESTS  := $(RUN:%=$(BUILD)/bin/%) $(if $(SRC_test_tool),$(BUILD)/bin/victim)

.PHONY: all tests demo deps test run-tests lint format check symbols bench clean help install
.PHONY: check-ptx bench-queue fuzz run-fuzz prove prove-model prove-sim prove-storm prove-storage
all: $(PROGRAMS)
tests: $(PROGRAMS) $(TESTS) $(patsubst %,$(BUILD)/bin/%,$(BENCHES) $(MAKERS))

# --- rules --------------------------------------------------------------------------------------
# A stamp changes only when its content does: a new flag recompiles, a new or deleted file relinks.
.PHONY: FORCE
FORCE:
define stamp_rule
$(1): FORCE
	@mkdir -p "$$(@D)"; printf '%s\n' $(2) | cmp -s - $$@ || printf '%s\n' $(2) >$$@
endef
STAMPS := $(BUILD)/stamp
FLAGS_NOW := $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(foreach l,$(LAYERS),$(CFLAGS_$l))
$(eval $(call stamp_rule,$(STAMPS)/flags,'$(subst ','\'',$(FLAGS_NOW))'))

# What --version and manifests say: the release, and the commit when this is a git checkout. Only the
# files that say it are compiled anew when it changes.
COMMIT    := $(shell git describe --always --dirty --exclude '*' 2>/dev/null)
BUILD_ID  := $(VERSION)$(if $(COMMIT),-$(COMMIT))
SAY_BUILD := $(call obj,$(wildcard worker/main.c broker/main.c client/cmd_about.c))
$(eval $(call stamp_rule,$(STAMPS)/build-id,$(BUILD_ID) $(CUDA)))
$(SAY_BUILD): $(STAMPS)/build-id
$(SAY_BUILD): ALL_CPPFLAGS += -DONESTEP_BUILD='"$(BUILD_ID)"' -DONESTEP_CUDA=$(CUDA)

# The message for a bare machine, instead of a compiler's complaint about a missing header.
$(STAMPS)/deps: ops/setup/deps.sh
	@mkdir -p $(@D); ops/setup/deps.sh --check; touch $@

define layer_rules
OBJ_$(1) := $(call obj,$(SRC_$(1))) $(GEN_$(1))
$$(eval $$(call stamp_rule,$(STAMPS)/lib$(1),$(SRC_$(1)) $(GEN_$(1)) end))
$(call lib,$(1)): $$(OBJ_$(1)) $(STAMPS)/lib$(1)
	$$(Q)rm -f $$@; $(AR) cqs $$@ $$(OBJ_$(1))
$$(OBJ_$(1)): LAYER_CFLAGS := $(CFLAGS_$(1))
endef
$(foreach l,$(LAYERS),$(eval $(call layer_rules,$l)))

# $(1) binary, $(2) sources, $(3) layer it links, $(4) further archives placed before the layers
define binary_rules
$$(eval $$(call stamp_rule,$(STAMPS)/bin-$(1),$(2) end))
$(BUILD)/bin/$(1): $(call obj,$(2)) $(4) $(call libs_of,$(3)) $(STAMPS)/bin-$(1)
	@mkdir -p $$(@D); echo "  LD $$@"
	$$(Q)$(CC) $(ALL_LDFLAGS) -o $$@ $(call obj,$(2)) $(4) $(call libs_of,$(3)) \
	  $(call outside,$(3)) $(LDLIBS)
endef
$(foreach l,client broker worker,$(if $(wildcard $l/main.c),\
  $(eval $(call binary_rules,$(PROGRAM_$l),$l/main.c,$l))))
ALSO_check_sim := $(call lib,broker) $(call lib,client)
$(foreach s,$(SUITES),$(eval $(call binary_rules,$s,$(SRC_$s),$(LINK_$s),$(LIBTEST) $(ALSO_$s))))
$(BUILD)/bin/check_sim: $(BUILD)/bin/sim_clock.so
SRC_prove_sim  := $(filter-out tests/sim/test_%,$(wildcard tests/sim/*.c))
$(eval $(call binary_rules,prove_sim,$(SRC_prove_sim),worker,$(ALSO_check_sim)))
SRC_prove_storm := $(filter-out tests/storm/test_%,$(wildcard tests/storm/*.c))
$(eval $(call binary_rules,prove_storm,$(SRC_prove_storm),common))
$(BUILD)/bin/prove_sim: $(BUILD)/bin/sim_clock.so
# Preloaded into a redis-server, which knows no sanitizer.
$(BUILD)/bin/%_clock.so: tests/%/preload/clock.c
	@mkdir -p $(@D); echo "  SO $@"
	$(Q)$(CC) -std=c11 -O2 -D_GNU_SOURCE $(WARN) -shared -fPIC -o $@ $<
# A driver of a GPU that is pretended; the suite finds it beside itself.
$(BUILD)/bin/libcuda.so.1: tests/unit/kernels/preload/libcuda.c tests/unit/kernels/fake_gpu.h
	@mkdir -p $(@D); echo "  SO $@"
	$(Q)$(CC) -std=c11 -O2 -I. $(WARN) -Wno-missing-prototypes -shared -fPIC \
	  -Wl,-soname,libcuda.so.1 -o $@ $<
$(BUILD)/bin/test_kernels: $(BUILD)/bin/libcuda.so.1
$(if $(SRC_test_tool),$(eval $(call binary_rules,victim,tests/tool/victim.c,base,$(LIBTEST))))
fuzz_name  = $(patsubst fuzz_%.c,%,$(notdir $(1)))
fuzz_layer = $(patsubst tests/fuzz/%/,%,$(dir $(1)))
ifeq ($(FLAVOR),fuzz)
# No bytes from outside get here as such, and they are written for gcc.
$(BUILD)/kernels/cpu/%: CC := gcc
$(BUILD)/kernels/cpu/%: ALL_CFLAGS := -std=c11 -pthread $(WARN) -O1 -g
$(foreach f,$(FUZZ_ENTRIES),$(eval $(call binary_rules,fuzz_$(call fuzz_name,$f),\
  tests/fuzz/fuzz.c $(FUZZ_HELP_$(call fuzz_layer,$f)) $f,$(call fuzz_layer,$f))))
endif
$(foreach b,$(BENCHES) $(MAKERS),\
  $(eval $(call binary_rules,$b,tests/bench/$b.c,$(or $(LINK_$b),worker),$(LIBTEST))))

$(eval $(call stamp_rule,$(STAMPS)/libtest,$(SRC_tool) end))
$(LIBTEST): $(call obj,$(SRC_tool)) $(STAMPS)/libtest
	$(Q)rm -f $@; $(AR) cqs $@ $(call obj,$(SRC_tool))

$(eval $(call stamp_rule,$(STAMPS)/libptx,$(SRC_ptx) end))
$(LIBPTX): $(call obj,$(SRC_ptx)) $(PTX_TARGET).o $(STAMPS)/libptx
	$(Q)rm -f $@; $(AR) cqs $@ $(call obj,$(SRC_ptx)) $(PTX_TARGET).o
# Each instruction is a loop over 32 lanes.
$(BUILD)/tests/ptx/%: FP := -O3 -ffp-contract=off

$(BUILD)/%.c.o: %.c $(STAMPS)/flags | $(STAMPS)/deps
	@mkdir -p $(@D); echo "  CC $<"
	$(Q)$(CC) $(ALL_CPPFLAGS) -MMD -MP $(LAYER_CFLAGS) $(ALL_CFLAGS) $(FP) -c -o $@ $<
$(BUILD)/%.c.o: $(BUILD)/%.c $(STAMPS)/flags | $(STAMPS)/deps
	@mkdir -p $(@D); echo "  CC $<"
	$(Q)$(CC) $(ALL_CPPFLAGS) -MMD -MP $(LAYER_CFLAGS) $(ALL_CFLAGS) $(FP) -c -o $@ $<

$(BUILD)/proto/%.pb-c.c $(BUILD)/proto/%.pb-c.h &: proto/%.proto | $(STAMPS)/deps
	@mkdir -p $(@D); echo "  PB $<"
	$(Q)protoc-c --c_out=$(@D) --proto_path=proto $<
$(call obj,$(SRC_proto) $(wildcard tests/unit/proto/*.c)): | $(PB_H)

# Kept, so that a debugger and a reader find them.
.SECONDARY: $(PB_C) $(PB_H) $(EMBED_C) $(BUILTIN_C) $(FATBINS) $(PTX_TARGET) $(PTX)

$(BUILD)/kernels/cuda/cuda_wgmma.fatbin: NVCC_ARCHS := $(NVCC_WGMMA)
$(BUILD)/%.fatbin: %.cu
	@mkdir -p $(@D); echo "  NVCC $<"
	$(Q)$(NVCC) -fatbin $(NVCC_ARCHS) $(NVCC_FLAGS) -MMD -MP -MF $@.d -o $@ $<
$(eval $(call stamp_rule,$(STAMPS)/fatbins,$(FATBINS) end))
$(BUILTIN_C): kernels/cuda/embed.sh $(FATBINS) $(STAMPS)/fatbins
	@mkdir -p $(@D); echo "  EMBED $@"
	$(Q)kernels/cuda/embed.sh cuda_builtin cuda_libcuda $(FATBINS) >$@

$(BUILD)/kernels/cuda/cuda_wgmma.ptx: PTX_ARCH := compute_90a
$(BUILD)/%.ptx: PTX_ARCH := compute_80
$(BUILD)/%.ptx: %.cu
	@mkdir -p $(@D); echo "  NVCC $@"
	$(Q)$(NVCC) -ptx -gencode arch=$(PTX_ARCH),code=$(PTX_ARCH) $(NVCC_FLAGS) -MMD -MP -MF $@.d \
	  -o $@ $<
$(PTX_TARGET): kernels/cuda/embed.sh $(PTX) $(STAMPS)/fatbins
	@mkdir -p $(@D); echo "  EMBED $@"
	$(Q)kernels/cuda/embed.sh ptx_target ptx_driver $(PTX) >$@

# common/NAME.lua becomes `const char NAME_lua[]`, ended by a NUL.
$(BUILD)/%.lua.c: %.lua
	@mkdir -p $(@D); echo "  EMBED $<"
	$(Q){ echo 'extern const char $(notdir $*)_lua[];'; echo 'const char $(notdir $*)_lua[] = {'; \
	  od -An -v -tx1 $< | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'; echo '0 };'; } >$@

# --- what people type ---------------------------------------------------------------------------
PHOTO   := $(firstword $(wildcard ops/samples/*.jpg))
DEMO    := $(ONESTEP) run $(PHOTO) --width 192 --height 128 --motion-bucket 60 --seed 7

deps: ; @ops/setup/deps.sh

demo:
	@ops/setup/deps.sh
	@$(MAKE) all
	@echo "  $(DEMO)"; $(DEMO)

test:
	@ops/setup/deps.sh
	@$(MAKE) run-tests

run-tests: tests
	@tests/tool/run_suites.sh $(BUILD)/bin "$(RUN)" $(TFLAGS)

# Inputs that reached something new are kept in build/fuzz/corpus for the next run; what broke an
# entry is in build/fuzz/findings.
fuzz:
	@ops/setup/deps.sh --with-fuzz
	@$(MAKE) FLAVOR=fuzz run-fuzz
FUZZ_NAMES := $(or $(FUZZ),$(foreach f,$(FUZZ_ENTRIES),$(call fuzz_name,$f)))
run-fuzz: $(FUZZ_NAMES:%=$(BUILD)/bin/fuzz_%)
	@tests/fuzz/run.sh $(BUILD) $(FUZZ_SECONDS) $(FUZZ_NAMES)

# The long forms of what `make test` does in short.
PROVE_FAULTS ?= 1000000
PROVE_KILLS  ?= 1000
PROVE_WORKERS_KILLED ?= 500
check-ptx: tests
	@$(MAKE) --no-print-directory run-tests TFLAGS='ptx_'

prove: prove-model prove-sim prove-storm prove-storage
prove-model: ; @tests/spin/run.sh
prove-sim: $(BUILD)/bin/prove_sim
	@$< --faults $(PROVE_FAULTS)
prove-storm: $(BUILD)/bin/prove_storm $(PROGRAMS)
	@$< --kills $(PROVE_KILLS)
prove-storage: $(BUILD)/bin/check_e2e $(PROGRAMS)
	@ONESTEP_KILLS=$(PROVE_WORKERS_KILLED) ONESTEP_KILLS_REPORT=$(BUILD)/kills.txt \
	  $< $(if $(SEED),--seed $(SEED)) storage_kills_lose && cat $(BUILD)/kills.txt

lint:
	@ops/setup/deps.sh --check --with-lint
	@tests/tool/lint.sh
	@$(MAKE) symbols
symbols: $(foreach l,$(LAYERS),$(call lib,$l))
	@tests/tool/check_symbols.sh $(BUILD)
check:
	@$(MAKE) lint WERROR=1
	@$(MAKE) test WERROR=1
format:
	@clang-format-14 -i $$(tests/tool/sources.sh)

# tests/bench/bench_NAME.c is run by `make bench-NAME`; JSON=1 asks for JSON lines.
# `make bench` runs all, one after the other: side by side they would measure each other.
bench: $(patsubst %,$(BUILD)/bin/%,$(filter-out bench_engine bench_storage,$(BENCHES)))
	@for b in $^; do "$$b" $(if $(filter 1,$(JSON)),--json); done
# One clip of full SVD size beside diffusers; the random checkpoint is kept in build/.
MODEL     ?= build/svd-random
SIZE      ?= 14x448x256
PRECISION ?= bf16
bench-engine: $(BUILD)/bin/bench_engine $(BUILD)/bin/make_checkpoint
	@tests/bench/peers/engine.sh $(BUILD)/bin $(MODEL) $(SIZE) $(PRECISION) $(JSON)
bench-storage: $(BUILD)/bin/bench_storage
	@tests/bench/storage.sh $(BUILD)/bin $(if $(filter 1,$(JSON)),--json)
$(BUILD)/bin/bench_queue: | $(PROGRAMS)
bench-queue: $(BUILD)/bin/bench_queue
	@$< $(if $(filter 1,$(JSON)),--json)
	@tests/bench/queue/peers.sh
bench-%: $(BUILD)/bin/bench_%
	@$< $(if $(filter 1,$(JSON)),--json)

# Manual pages and completions come out of the programs, from the tables that their --help uses.
SHARE := $(DESTDIR)$(PREFIX)/share
install: all
	@mkdir -p '$(DESTDIR)$(PREFIX)/bin' '$(SHARE)/man/man1' '$(SHARE)/zsh/site-functions' \
	  '$(SHARE)/bash-completion/completions'
	@install -m 755 $(PROGRAMS) '$(DESTDIR)$(PREFIX)/bin/'
	@$(ONESTEP) man >'$(SHARE)/man/man1/onestep.1'
	@$(ONESTEP)-broker --man >'$(SHARE)/man/man1/onestep-broker.1'
	@$(ONESTEP)-worker --man >'$(SHARE)/man/man1/onestep-worker.1'
	@$(ONESTEP) completion bash >'$(SHARE)/bash-completion/completions/onestep'
	@$(ONESTEP) completion zsh >'$(SHARE)/zsh/site-functions/_onestep'
	@mkdir -p '$(SHARE)/onestep/checkpoints'
	@cp -r ops/config '$(SHARE)/onestep/'
	@cp -r ops/checkpoints/tiny-osv '$(SHARE)/onestep/checkpoints/'

clean:
	rm -rf build

help:
	@sed -n 's/^#? \{0,1\}//p' Makefile

#? make              programs into build/FLAVOR/bin: onestep, onestep-broker, onestep-worker
#? make demo         install what is missing, build, turn a sample photograph into a video
#? make test         install what is missing, build, run every test suite
#? make deps         only install missing Debian packages, saying what each is for
#? make lint         layers, headers, names, sizes, formatting
#? make check        lint and test with warnings as errors
#? make fuzz         feed damaged input to every parser; needs clang, which it installs
#? make bench-engine one clip of full SVD size, random weights, beside diffusers if installed
#? make check-ptx    the kernels for GPUs in an interpreter, and the interpreter's own tests
#? make prove        the long forms of the proofs: a million simulated faults, a thousand kills
#? make prove-storage  one of them: 500 kills of workers, no result lost or published twice
#? make bench-storage  uploads beside curl, and to Swift if installed
#? make bench-queue  the queue, durable, beside the durable queues of Debian that are installed
#? make bench-NAME   one benchmark of tests/bench (make bench: all); JSON=1 prints JSON lines
#? make format       clang-format every source file in place
#? make install      programs, manuals, completions, sample checkpoint and settings below
#?                   DESTDIR/PREFIX
#? make clean        remove build/
#?
#? Settings:
#? FLAVOR=release|debug|asan|tsan   optimised (default), for gdb, or with a sanitizer
#? BUILD=DIR                        where to build; default build/FLAVOR
#? WERROR=1                         warnings are errors
#? TFLAGS='TEXT --no-skip'          only tests with TEXT in their name; a skip is a failure
#? WITHOUT='SUITE...'               leave out suites, for instance check_golden
#? FUZZ_SECONDS=N FUZZ='NAME...'    how long `make fuzz` runs each entry; which ones
#? PREFIX=DIR DESTDIR=DIR           where `make install` puts things; default /usr/local
#? PROVE_FAULTS=N                   faults that `make prove` puts into the simulated cluster
#? SIZE=14x1024x576 PRECISION=f32   for bench-engine; MODEL=DIR takes that checkpoint
#? PROVE_KILLS=N                    real programs that `make prove` kills
#? PROVE_WORKERS_KILLED=N           workers that `make prove-storage` kills while they store clips
#? CUDA=0                           no kernels for GPUs; the default is 1 where nvcc is
#? V=1                              show commands

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
