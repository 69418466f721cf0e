# `make demo`, `make serve`, `make tables` and `make test` do everything on a fresh machine. SMOKE=1 makes all but the last
# a matter of seconds.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
DEMO ?= demo
# Threads that spin while they wait slow each other down many times over as soon as another program takes a core.
export OMP_WAIT_POLICY ?= passive
ifeq ($(SMOKE),1)
DEMO_ROOT := $(DEMO)/smoke
DEMO_DATA := --train-ids 12 --val-ids 2 --test-ids 6 --images 2 --size 64 32
DEMO_KEYS := num_epoch 1 eval_interval 1 p_size 4 k_size 4 image_size "(64, 32)"
TABLE := demo_ablation_smoke
TABLE_OPTIONS := --jobs 2 --results $(DEMO)/results
SERVE_OPTIONS := --port 0 --check
else
DEMO_ROOT := $(DEMO)/SYSU-MM01
DEMO_DATA := --train-ids 64 --val-ids 8 --test-ids 40 --images 4
DEMO_KEYS :=
TABLE := demo_ablation_quick
TABLE_OPTIONS :=
SERVE_OPTIONS := --open
endif

.PHONY: demo serve tables lint test test-oldest install install-serve torchsort clean

demo: install
	$(PY) -m tools.make_synthetic $(DEMO_ROOT) $(DEMO_DATA)
	$(PY) main.py --cfg configs/Demo.yml --gpu cpu --desc demo \
		data_root $(DEMO_ROOT) output_dir $(DEMO)/ckptlog cache_dir $(DEMO)/cache $(DEMO_KEYS)
	$(PY) -m tools.summarize --newest $(DEMO)/ckptlog

tables: install
	$(PY) -m tools.make_synthetic $(DEMO_ROOT) $(DEMO_DATA)
	$(PY) -m tools.reproduce configs/tables/$(TABLE).yml --device cpu $(TABLE_OPTIONS) \
		data_root $(DEMO_ROOT) cache_dir $(DEMO)/cache

# The page, with the newest model of `make demo` and its test images; SMOKE=1 answers one search and ends.
serve: install-serve
	@run=$$($(PY) -m tools.summarize --newest $(DEMO)/ckptlog | sed -n 's/^run folder: //p') && \
		{ [ -n "$$run" ] || { echo "make demo$(if $(SMOKE), SMOKE=1) trains a model; do that first" >&2; exit 2; }; } && \
		gallery="$$run/gallery/$(notdir $(DEMO_ROOT))" && mkdir -p "$$run/gallery" && \
		$(PY) -m tools.embed "$$run" $(DEMO_ROOT) --dataset sysu --out "$$gallery" && \
		$(PY) -m tools.serve "$$gallery" --model "$$run" $(SERVE_OPTIONS)

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# Two processes or more, up to four, share the tests: each loads torch, and more would ask for much memory.
test: install
	OMP_NUM_THREADS=1 $(PY) -m pytest tests --numprocesses auto --maxprocesses 4

# The lowest versions that the requirements allow, for a PYTHON of 3.10.
test-oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	sed 's/>=/==/; /^#/d' requirements.txt requirements-serve.txt tests/requirements.txt > $(VENV)-oldest/lowest.txt
	$(VENV)-oldest/bin/python -m pip install --quiet -r $(VENV)-oldest/lowest.txt
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest tests --numprocesses auto --maxprocesses 4

install: $(VENV)/installed

$(VENV)/installed: requirements.txt tests/requirements.txt tools/install_torchsort.sh
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -r requirements.txt -r tests/requirements.txt
	@sh tools/install_torchsort.sh $(PY)
	touch $@

# What the commands around a trained model need.
install-serve: $(VENV)/installed-serve

$(VENV)/installed-serve: $(VENV)/installed requirements-serve.txt
	$(PY) -m pip install --quiet -r requirements-serve.txt
	touch $@

torchsort: install
	@sh tools/install_torchsort.sh $(PY)

clean:
	rm -rf $(VENV) $(DEMO)
