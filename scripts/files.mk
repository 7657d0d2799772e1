EXTRA_DIST += scripts/install-deps.sh scripts/quickstart.sh scripts/run-tests.sh
