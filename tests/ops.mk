# tests on several hosts and under Slurm
TESTS_CLI += tests/cli_hosts.bats
TESTS_LONG += tests/long_hosts.sh tests/long_slurm.sh
EXTRA_DIST += tests/cli_hosts.bats tests/long_hosts.sh tests/long_slurm.sh tests/hosts.bash tests/traffic.py \
	tests/testbed/slurm-on-minihosts.sh tests/testbed/bare-debian.sh
