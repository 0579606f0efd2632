#!/usr/bin/env bash
# Sourced by the scripts that check what the real kubectl prints: PREFIX is what the name of their
# namespace begins with, the arguments are kubectl's own. Leaves `home`, `ns`, `server` and counts.
set -uo pipefail
if ! command -v kubectl >/dev/null; then
    echo "SKIPPED: no kubectl"
    exit 77
fi
home=$(mktemp -d)
export HOME=$home # kubectl's caches
ns=$prefix-$$
server=("$@")
passed=0 failed=0 skipped=0

k() { timeout 60 kubectl "${server[@]}" -n "$ns" "$@"; }

# check NAME REGEX COMMAND...: the command succeeds and its output (both streams) matches.
check() {
    local name=$1 want=$2 out code
    shift 2
    out=$("$@" 2>&1)
    code=$?
    if [ $code -eq 0 ] && grep -qE -- "$want" <<<"$out"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL %s\n  command: %s\n  exit %d, wanted /%s/\n%s\n' "$name" "$*" $code "$want" \
            "$(sed 's/^/  | /' <<<"$out")"
    fi
}

# refuse NAME REGEX COMMAND...: the command fails and says why.
refuse() {
    local name=$1 want=$2 out code
    shift 2
    out=$("$@" 2>&1)
    code=$?
    if [ $code -ne 0 ] && [ $code -ne 124 ] && grep -qE -- "$want" <<<"$out"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL %s\n  command: %s\n  exit %d, wanted a refusal /%s/\n%s\n' "$name" "$*" $code \
            "$want" "$(sed 's/^/  | /' <<<"$out")"
    fi
}

# soon NAME REGEX COMMAND...: the command, repeated for at most a minute, comes to succeed and match.
soon() {
    local name=$1 want=$2 out end=$((SECONDS + 60))
    shift 2
    until out=$("$@" 2>&1) && grep -qE -- "$want" <<<"$out"; do
        if [ $SECONDS -ge $end ]; then
            failed=$((failed + 1))
            printf 'FAIL %s\n  command: %s\n  waited 60 s for /%s/\n%s\n' "$name" "$*" "$want" \
                "$(sed 's/^/  | /' <<<"$out")"
            return
        fi
        read -rt 0.1 <> <(:) || true
    done
    passed=$((passed + 1))
}

skip() {
    skipped=$((skipped + 1))
    echo "SKIPPED: $1"
}

apply_text() { k apply "${@:2}" -f - <<<"$1"; }
create_text() { k create "${@:2}" -f - <<<"$1"; }

finish() {
    kubectl "${server[@]}" delete namespace "$ns" --wait=false >/dev/null 2>&1
    rm -rf "$home"
}
trap finish EXIT
