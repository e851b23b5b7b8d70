# The Go compiler and linker: many threads, that stop each other by signals.
export HOME=$PWD GOCACHE=$PWD/cache GOFLAGS=-mod=mod TMPDIR=$PWD
cat >t.go <<'X'
package main

import (
	"fmt"
	"os"
	"sort"
	"sync"
)

func main() {
	var group sync.WaitGroup
	sums := make([]int, 8)
	for n := range sums {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			words := []string{}
			for i := 0; i < 20000; i++ {
				words = append(words, fmt.Sprint(i*n%977))
			}
			sort.Strings(words)
			sums[n] = len(words[n*100]) + len(words)
		}(n)
	}
	group.Wait()
	fmt.Println(sums)
	os.Exit(4)
}
X
for round in 1 2 3; do
    go build -o t t.go && ./t; echo $?
    rm -rf cache t
done
echo 'package main; func main() { x }' >bad.go; go build bad.go 2>&1 | grep -c undefined
chmod -R u+w . && rm -rf ./*
