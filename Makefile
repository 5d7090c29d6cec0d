# make demo     everything from nothing to SmolLM2 compressed, healed and compared, with a report
# make paper    the paper's tables and figures on SmolLM2 (FORM=long: over night)
# make test     everything from nothing to all tests
# make package  an archive and a Debian package that need no compiler
PRESET ?= release
BUILD := build/$(PRESET)
# Tests that run at once, each on one thread.
TEST_JOBS ?= 2
# Of demo and paper: CALIBRATION=a.txt,b.jsonl TEXT=c.txt BENCHMARKS=folder
FORM ?= short
paper_options = $(if $(CALIBRATION),--calibration $(CALIBRATION)) $(if $(TEXT),--text $(TEXT)) \
  $(if $(BENCHMARKS),--benchmarks $(BENCHMARKS))

.PHONY: demo paper test test-slow build program package configure setup setup-test sanitize fuzz bench format format-check lint clean

demo: program
	python3 scripts/paper.py $(BUILD)/bin/schmidt --form demo $(paper_options)

paper: program
	python3 scripts/paper.py $(BUILD)/bin/schmidt --form $(FORM) $(paper_options)

test: setup-test build
	OMP_NUM_THREADS=1 ctest --test-dir $(BUILD) --output-on-failure -LE slow -j $(TEST_JOBS)

test-slow: setup-test build
	ctest --test-dir $(BUILD) --output-on-failure -L slow

build: configure
	cmake --build $(BUILD)

program: configure
	cmake --build $(BUILD) --target schmidt

package: program
	cpack --config $(BUILD)/CPackConfig.cmake -B $(BUILD)/packages

configure: setup
	@[ -f $(BUILD)/build.ninja ] || cmake --preset $(PRESET)

setup:
	@scripts/setup.sh

setup-test:
	@scripts/setup.sh test

# The unit tests under AddressSanitizer and UBSan, then under ThreadSanitizer.
sanitize: setup-test
	scripts/sanitize.sh

fuzz: setup
	scripts/fuzz.sh 60

bench: build
	OMP_NUM_THREADS=1 $(BUILD)/bin/mpo_apply_bench
	OMP_NUM_THREADS=1 $(BUILD)/bin/linear_bench

format:
	scripts/format.sh

format-check:
	scripts/format.sh --check

lint: configure
	scripts/lint.sh $(BUILD)

clean:
	rm -rf build demo paper
