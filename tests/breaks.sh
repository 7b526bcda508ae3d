#!/usr/bin/env bash
# Breaks the product on purpose, one way at a time, and sees the test that guards against it fail: tests/breaks.sh [NAME...]
#
# A test that can't fail proves nothing. Whoever changes the merge, the halos, the histograms or the receipts runs this
# by hand, and so does whoever changes a test named here; ./check does not, since every break is a build. A break is a
# sed expression that must change its file, in a scratch checkout of HEAD: what is not committed is not tested. A break
# counts as found when everything builds and the test then fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# name | file | sed expression | package and target | test
breaks=(
    "corners of a seam are skipped | pipeline/src/reduce/seam.rs | s/-1\.\.=1isize/0..=0isize/
        | tests --test all | breaks::objects_meet_over_the_corner_of_blocks"
    "objects never close | pipeline/src/reduce/up.rs | s/alias\.faces & faces != 0/alias.faces != 0/
        | tests --test all | breaks::objects_close_when_they_reach_no_open_face"
    "a range misses the row it starts with | pipeline/src/reduce/rank.rs | s/\*c <= last)/*c < last)/
        | tests --test all | breaks::ranges_have_their_first_row"
    "a receipt forgets blocks of one row | pipeline/src/task/worker.rs | s/c\.rows > 0/c.rows > 1/
        | tests --test all | breaks::ranges_have_their_first_row"
    "rows merge without their surface | voxel/src/table.rs | /self\.surface_faces = self\.surface_faces\.saturating_add/d
        | tests --test all | breaks::parts_of_an_object_add_up"
    "halos are one voxel short | pipeline/src/plan.rs | s/grown(op\.halo(self\.extent), /grown(op.halo(self.extent).map(|h| h.saturating_sub(1)), /
        | tests --test all | breaks::blocks_read_all_of_their_halo"
    "labels see no voxel around their block | pipeline/src/plan/stage.rs | s/Leaf::Contacts { \.\. } => 1,/Leaf::Contacts { .. } => 0,/
        | tests --test all | breaks::blocks_see_one_voxel_around_their_labels"
    "histograms replace, not add | voxel/src/histogram/tally.rs | s/= counts\[at as usize\]\.wrapping_add(\*count)/= *count/
        | tests --test all | breaks::histograms_of_blocks_add_up"
    "a receipt comes before its data | pipeline/src/task/worker.rs | s/let mut running = JoinSet::new();/self.write_receipt(stage, first, end, Vec::new(), Vec::new()).await?; &/
        | tests --test all | breaks::a_receipt_comes_after_its_data"
    "a receipt speaks for the next one | coordinator/src/dispatch.rs | s/next = receipt\.end;/next = receipt.end + length;/
        | tests --test all | breaks::what_has_no_receipt_is_done_again"
    "a receipt answers with its own end, not with that of the one that stands | pipeline/src/record.rs
        | s/if store\.put_new(key, json(&record)?)\.await? {/if store.put_new(key, json(\&record)?).await? || true {/
        | pipeline --lib | task::tests::the_receipt_that_stands_is_gone_by"
    "attempts that end at different units count into one object | pipeline/src/layout.rs | s/tally-{first:012}-{end:012}/tally-{first:012}/
        | tests --test all | chaos::troubled_equals_calm"
    "a fence lets everybody through | pipeline/src/fence.rs | s/if self\.clock\.now() <= self\.not_after {/if self.not_after.0 > 0 {/
        | tests --test all | chaos::troubled_equals_calm"
    "contacts are counted from both sides | voxel/src/contacts.rs | s/\*offset > \[0; 3\]/*offset != [0; 3]/
        | voxel --lib | contacts::tests::contacts_of_blocks_add_up_to_those_of_all_pairs"
    "a merge depends on its grouping | voxel/src/table.rs | s/self\.end\[axis\]\.max(other\.end\[axis\])/self.end[axis].midpoint(other.end[axis])/
        | tests --test all | merge::any_grouping_of_the_same_blocks"
    "fences are never closed | pipeline/src/fence.rs | s/if self\.clock\.now() <= self\.not_after/if self.clock.now() <= Moment(u64::MAX)/
        | tests --test all | breaks::a_late_attempt_writes_nothing"
    "an attempt goes on when nobody waits for it | pipeline/src/task/worker.rs | s/ 0 => Err(heard/ 0 if false => Err(heard/
        | tests --test all | breaks::an_attempt_that_nobody_waits_for_writes_nothing_more"
    "an upload ends beyond its fence | pipeline/src/store/write.rs | /pub async fn finish(self)/,/Ok(/{/gates\.check/d}
        | pipeline --lib | store::tests::a_closed_fence_lets_nothing_through"
    "records are trusted | pipeline/src/record.rs | s/if end != seal(head)\.as_bytes()/if end.is_empty()/
        | pipeline --lib | record::tests::every_flipped_bit_and_every_cut_is_found"
    "an op changes without its version | voxel/src/threshold.rs | s/(Cut::Above(_), order) => order\.is_gt()/(Cut::Above(_), order) => order.is_ge()/
        | tests --test all | golden_ops::no_op_changes_without_its_version"
    "two versions of an object go together | pipeline/src/stale.rs | s/Some(other) if other != version/Some(other) if other != other/
        | tests --test all | again::two_versions_of_a_chunk_end_the_run"
    "what depends on a changed block stays | pipeline/src/stale.rs | s/^        _ => true,/        _ => false,/
        | tests --test all | again::a_changed_chunk_redoes_what_depends_on_it"
    "a changed input is not noticed | pipeline/src/stale.rs | s/now\.get(key) == Some(version)/now.contains_key(key)/
        | tests --test all | again::a_changed_chunk_is_noticed_whatever_is_left"
    "stages are named without their ops | pipeline/src/plan/fingerprint.rs | s/hash(&(before, op, op\.version(), masked))/hash(\&(before, masked))/
        | pipeline --lib | plan::tests::stages_are_named_after_what_they_depend_on"
    "what was saved is taken for what it is not | pipeline/src/plan/given.rs | s/same(stored\.image) && //
        | pipeline --lib | plan::tests::what_a_finished_run_has_left_is_not_made_again"
    "windows are not compared | pipeline/src/verify/windows.rs | s/Ok(difference(&anew, &ours))/Ok(difference(\&anew, \&anew))/
        | tests --test all | verify::what_was_computed_wrongly_is_found"
    "components stop after one round | pipeline/src/reduce/components.rs | s/if !changed {/if !changed || round == 0 {/
        | pipeline --lib | reduce::components::tests::of_paths"
    "who lost an output goes on writing | coordinator/src/hold/lease.rs | s/if began\.elapsed() <= PATIENCE/if true||began.elapsed() <= PATIENCE/
        | coordinator --lib | hold::lease::tests::a_slow_holder_that_comes_back_writes_nothing_more"
    "attempts are sent before anybody can know how long they write | coordinator/src/hold/lease.rs | /lease::allow(&self\.store, self\.number, until)/d
        | coordinator --lib | hold::lease::tests::a_promise_is_kept_in_the_store_before_it_is_relied_on"
    "data goes before its receipts | pipeline/src/publish/clear.rs | /^    disavow(store)\.await?;$/d
        | tests --test all | clearing::whoever_stops_half_way_leaves_nothing_that_claims_too_much"
)

trim() { sed -E 's/^[[:space:]]+|[[:space:]]+$//g' <<<"$1"; }

# The field of a break; expressions hold `|` without spaces around it only.
field() { trim "$(tr '\n' ' ' <<<"$1" | sed -E 's/[[:space:]]+\|[[:space:]]+/\x1f/g' | cut -d $'\x1f' -f "$2")"; }

# A folder of its own, kept for the next time: cargo tells the crates of two checkouts apart by their paths within the
# workspace only, so in a shared folder this checkout's next build would link what was broken here.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/breaks
scratch=$(mktemp -d)
trap 'git worktree remove --force "$scratch/checkout" 2>/dev/null; rm -rf "$scratch"' EXIT
git worktree add --quiet --detach "$scratch/checkout" HEAD

# run TARGET TEST: 0 when the one test passes, 1 when it fails, 2 when it is not there or nothing builds. For the
# workspace, whichever package it is in: of one package alone, dependencies have other features and are built again.
run() {
    local output=$scratch/output target=${1#* }
    (cd "$scratch/checkout" && cargo test --quiet --workspace $target --no-run >"$output" 2>&1) || return 2
    if (cd "$scratch/checkout" && cargo test --workspace $target -- --exact "$2" >"$output" 2>&1); then
        grep -q '1 passed' "$output" || return 2
    else
        grep -q '1 failed' "$output" && return 1 || return 2
    fi
}

chosen() { [[ $# == 1 ]] || printf '%s\n' "${@:2}" | grep -qxF "$1"; }

fields() { name=$(field "$1" 1) file=$(field "$1" 2) expression=$(field "$1" 3) target=$(field "$1" 4) test=$(field "$1" 5); }

for break in "${breaks[@]}"; do
    fields "$break"
    chosen "$name" "$@" || continue
    run "$target" "$test" || { echo "$test does not pass as it is" >&2; exit 1; }
done
missed=0
for break in "${breaks[@]}"; do
    fields "$break"
    chosen "$name" "$@" || continue
    git -C "$scratch/checkout" checkout --quiet .
    sed -i "$expression" "$scratch/checkout/$file"
    if git -C "$scratch/checkout" diff --quiet; then
        outcome="changes nothing"
    else
        status=0
        run "$target" "$test" || status=$?
        case $status in 0) outcome="NOT FOUND" ;; 1) outcome=found ;; *) outcome="does not build" ;; esac
    fi
    [[ $outcome == found ]] || missed=$((missed + 1))
    printf '%-16s %-42s %s\n' "$outcome" "$name" "$test"
done
((missed == 0)) || { echo "$missed not found" >&2; exit 1; }
