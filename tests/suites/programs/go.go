// A static program of Go's: its own runtime makes the system calls, without a C library.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func main() {
	var group sync.WaitGroup
	sums := make(chan int, 100)
	for i := 0; i < 100; i++ {
		group.Add(1)
		go func(n int) { defer group.Done(); runtime.Gosched(); sums <- n }(i)
	}
	group.Wait()
	close(sums)
	total := 0
	for n := range sums {
		total += n
	}
	fmt.Println(total, runtime.GOOS)
	out, err := exec.Command("sh", "-c", "echo child; exit 3").Output()
	fmt.Printf("%q %v\n", out, err)
	_, err = exec.Command("/nonexistent").Output()
	fmt.Println(err)
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-got)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
	} else {
		go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "served ", r.URL.Path) }))
		answer, err := http.Get("http://" + listener.Addr().String() + "/x")
		if err == nil {
			body, _ := io.ReadAll(answer.Body)
			fmt.Println(string(body))
		}
	}
	os.WriteFile("f", bytes.Repeat([]byte("x"), 1000), 0o640)
	data, _ := os.ReadFile("f")
	fmt.Printf("%d %x\n", len(data), sha256.Sum256(data))
	os.Remove("f")
	fmt.Println(os.WriteFile("/etc/nothing/x", nil, 0o600))
	func() {
		defer func() { fmt.Println(recover()) }()
		var none *int
		*none = 1
	}()
	garbage := 0
	for i := 0; i < 200; i++ {
		garbage += len(make([]byte, 1<<18))
	}
	runtime.GC()
	begin := time.Now()
	time.Sleep(20 * time.Millisecond)
	fmt.Println(garbage, time.Since(begin) >= 20*time.Millisecond)
	os.Exit(5)
}
