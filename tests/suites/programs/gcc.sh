# gcc: compiles, assembles, links and runs, with threads, a library of its own, and static.
export TMPDIR=$PWD
cat >t.c <<'X'
#include <pthread.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
static void *f(void *p) { double s = 0; for (int i = 1; i < 1000000; i++) s += 1.0 / i; *(double *)p = s; return p; }
int twice(int);
int main(int argc, char **argv) {
    pthread_t t[4]; double r[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, f, &r[i]);
    for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
    printf("%.6f %.6f %d %s\n", r[0] + r[3], sqrt(2), twice(21), argc > 1 ? argv[1] : "-");
    return 7;
}
X
echo 'int twice(int x) { return 2 * x; }' >u.c
gcc -O2 -Wall -c t.c u.c && gcc -pthread -o t t.o u.o -lm && ./t one; echo $?
gcc -shared -fPIC -o libu.so u.c && gcc -pthread -o s t.c -L. -lu -lm -Wl,-rpath,"$PWD" && ./s two; echo $?
gcc -static -pthread -o st t.c u.c -lm && ./st three; echo $?
gcc -O3 -march=native -flto -pthread -o l t.c u.c -lm && ./l four; echo $?
ar rcs libu.a u.o && gcc -o a t.o libu.a -pthread -lm && ./a five; echo $?; nm u.o; size u.o | wc -l; objdump -d u.o | grep -c ret; strip a; ./a; echo $?
echo 'int main(void) { return x; }' >bad.c; gcc bad.c 2>&1 | grep -c error; printf 'all: b\nb: u.c\n\t@echo made > b\n' >Makefile; command -v make >/dev/null && make -s -j2; cat b 2>/dev/null
rm -f *
