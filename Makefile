# `make demo` and `make test` do everything on a fresh machine. SMOKE=1 makes the demo a matter of seconds.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
DEMO ?= demo
ifeq ($(SMOKE),1)
DEMO_DATA := --train-ids 12 --val-ids 2 --test-ids 6 --images 2 --size 64 32
DEMO_KEYS := num_epoch 1 eval_interval 1 p_size 4 k_size 4 image_size "(64, 32)" data_root $(DEMO)/smoke output_dir $(DEMO)/ckptlog
DEMO_ROOT := $(DEMO)/smoke
else
DEMO_DATA := --train-ids 64 --val-ids 8 --test-ids 40 --images 4
DEMO_KEYS := data_root $(DEMO)/SYSU-MM01 output_dir $(DEMO)/ckptlog
DEMO_ROOT := $(DEMO)/SYSU-MM01
endif

.PHONY: demo test install torchsort lint clean

demo: install
	$(PY) -m tools.make_synthetic $(DEMO_ROOT) $(DEMO_DATA)
	$(PY) main.py --cfg configs/Demo.yml --gpu cpu --desc demo $(DEMO_KEYS)
	$(PY) -m tools.summarize --newest $(DEMO)/ckptlog

test: install
	$(PY) -m pytest tests

install: $(VENV)/installed

$(VENV)/installed: requirements.txt tests/requirements.txt tools/install_torchsort.sh
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -r requirements.txt -r tests/requirements.txt
	@sh tools/install_torchsort.sh $(PY)
	touch $@

torchsort: install
	@sh tools/install_torchsort.sh $(PY)

clean:
	rm -rf $(VENV) $(DEMO)
