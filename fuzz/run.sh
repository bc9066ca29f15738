#!/usr/bin/env bash
# Fuzzes every target for some seconds each, starting from the seeds and what earlier runs found.
#
#   fuzz/run.sh              10 s each
#   fuzz/run.sh 600          10 min each
#   fuzz/run.sh 60 delta     one target
#
# Works with stable Rust: coverage needs no nightly compiler, only the address sanitizer does, and
# there is no unsafe code to sanitize. FUZZ_SANITIZER=address uses it all the same, with nightly.
# What fails is kept in fuzz/artifacts/TARGET/; `cargo fuzz run` with that file shows it again.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-10}
shift || true
sanitizer=${FUZZ_SANITIZER:-none}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../target/fuzz}
cargo=cargo
if [ "$sanitizer" != none ]; then cargo='cargo +nightly'; fi

if ! cargo fuzz --version >/dev/null 2>&1; then
  cargo install --locked --quiet cargo-fuzz
fi
$cargo fuzz build --sanitizer "$sanitizer"
targets=("$@")
if [ ${#targets[@]} = 0 ]; then mapfile -t targets < <(cargo fuzz list); fi
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "seeds/$target"
  $cargo fuzz run --sanitizer "$sanitizer" "$target" "corpus/$target" "seeds/$target" -- \
    -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 2>"corpus/$target.log" || {
    tail -40 "corpus/$target.log"
    echo "fuzz: $target FAILED"
    exit 1
  }
  echo "fuzz: $target $(sed -n 's/^stat::number_of_executed_units: */executed /p' "corpus/$target.log"), $(sed -n 's/.*\(cov: [0-9]*\).*/\1/p' "corpus/$target.log" | tail -1)"
done
echo "${#targets[@]} passed, 0 failed"
