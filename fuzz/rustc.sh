#!/bin/sh
# rustc as Cargo calls it, with counters of coverage in our own code: a fuzzer goes by them. These options need no nightly.
case " $* " in
  *" --crate-name remora "* | *" --crate-name rem_grammar "* | *" --crate-name rem_sql "*)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
  *) exec "$@" ;;
esac
