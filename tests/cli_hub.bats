# Models where a Hugging Face cache has them, and directories of which only the config is there.
load common.bash

cache() { # DIR: a cache's repository with one snapshot, files as links to blobs
    mkdir -p "$1/blobs" "$1/refs" "$1/snapshots/0a1b2c"
    for f in "$models/mixtral_b"/*; do
        cp "$f" "$1/blobs/$(basename "$f").blob"
        ln -s "../../blobs/$(basename "$f").blob" "$1/snapshots/0a1b2c/$(basename "$f")"
    done
    printf 0a1b2c >"$1/refs/main"
}

@test "a repository of a cache, by its directory and by its hub name" {
    cache "$work/home/hub/models--some-org--Some_Model.v1"
    run "$MOEBATCH" inspect -m "$work/home/hub/models--some-org--Some_Model.v1"
    [ "$status" = 0 ] && [[ "$output" == *"family    : Mixtral"* ]]
    cd "$work"
    HF_HOME=$work/home run "$MOEBATCH" inspect -m some-org/Some_Model.v1
    [ "$status" = 0 ] && [[ "$output" == *"snapshots/0a1b2c"* ]]
    HF_HUB_CACHE=$work/home/hub HF_HOME=/nonexistent run "$MOEBATCH" inspect -m some-org/Some_Model.v1
    [ "$status" = 0 ]
    HF_HOME=$work/home run "$MOEBATCH" inspect -m some-org/Other
    [ "$status" = 2 ] && [[ "$output" == *"some-org/Other"* ]]
    printf '{"id":"a","prompt_ids":[5,6],"max_tokens":1}\n' >in.jsonl
    HF_HOME=$work/home "$MOEBATCH" run -m some-org/Some_Model.v1 -i in.jsonl -o r.h5
}

@test "a cache without refs/main has to have one snapshot; a name that leaves the cache is none" {
    repo=$work/models--a--b
    cache "$repo"
    rm "$repo/refs/main"
    "$MOEBATCH" inspect -m "$repo" >"$work/out"
    mkdir "$repo/snapshots/other"
    run "$MOEBATCH" inspect -m "$repo"
    [ "$status" = 2 ] && [[ "$output" == *"found 2"* ]]
    printf '../../..' >"$repo/refs/main"
    run "$MOEBATCH" inspect -m "$repo"
    [ "$status" = 2 ] && [[ "$output" == *"name of a snapshot"* ]]
    printf 'gone' >"$repo/refs/main"
    run "$MOEBATCH" inspect -m "$repo"
    [ "$status" = 2 ] && [[ "$output" == *"not complete"* ]]
}

@test "plan takes a directory with nothing but config.json" {
    mkdir "$work/m"
    cp "$models/llama4_a/config.json" "$work/m/"
    run "$MOEBATCH" plan -m "$work/m" --cluster "2 nodes x 2 EPYC-9654 768GB 400Gb"
    echo "$output"
    [ "$status" = 0 ]
}
