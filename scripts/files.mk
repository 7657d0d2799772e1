EXTRA_DIST += scripts/install-deps.sh scripts/alerts.yml scripts/build.sh scripts/quickstart.sh scripts/run-tests.sh scripts/lm_eval_moebatch.py \
	inputs/prompts.jsonl inputs/greedy.jsonl inputs/scoring.jsonl \
	inputs/models/demo/README.md inputs/models/demo/config.json inputs/models/demo/generation_config.json \
	inputs/models/demo/model.safetensors inputs/models/demo/tokenizer.json inputs/models/demo/tokenizer_config.json \
	inputs/models/demo/collect.py inputs/models/demo/prepare.py inputs/models/demo/train.py \
	tests/testbed/bare-debian.sh tests/testbed/slurm-on-minihosts.sh
EXTRA_DIST += scripts/peers/README scripts/peers/install.sh scripts/peers/run.py scripts/peers/make_model.py scripts/peers/common.py \
	scripts/peers/convert_gguf.py scripts/peers/peer_llama.py scripts/peers/peer_transformers.py scripts/peers/peer_vllm.py
