# rustc: a compiler of many threads, with LLVM, and its linker as a child. RUSTC is the compiler itself.
export TMPDIR=$PWD
cat >t.rs <<'X'
use std::collections::BTreeMap;
fn main() {
    let threads: Vec<_> = (0..4_u64).map(|n| std::thread::spawn(move || (1..1000 * (n + 1)).map(|x| x * x % 7).sum::<u64>())).collect();
    let sums: BTreeMap<usize, u64> = threads.into_iter().map(|thread| thread.join().unwrap()).enumerate().collect();
    println!("{sums:?}");
    std::process::exit(std::env::args().count() as i32);
}
X
for round in 1 2 3; do
    "$RUSTC" -O -C codegen-units=4 -o t t.rs && ./t one two; echo $?
done
"$RUSTC" -C debuginfo=2 -o d t.rs && ./d; echo $?
echo 'fn main() { x }' >bad.rs; "$RUSTC" bad.rs 2>&1 | grep -c '^error'
rm -f *
