// Goroutines, garbage, network, processes, signals.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func main() {
	var wait sync.WaitGroup
	var mutex sync.Mutex
	total := 0
	for n := 0; n < 100; n++ {
		wait.Add(1)
		go func(n int) {
			defer wait.Done()
			for i := 0; i < 100; i++ {
				mutex.Lock()
				total += n
				mutex.Unlock()
			}
		}(n)
	}
	wait.Wait()
	fmt.Println("total", total)
	var kept [][]byte
	for i := 0; i < 3000; i++ {
		block := make([]byte, 20000)
		block[i] = byte(i)
		if i%100 == 0 {
			kept = append(kept, block)
		}
	}
	runtime.GC()
	fmt.Println("kept", len(kept), kept[29][2900] == byte(2900&255))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				line, _ := bufio.NewReader(c).ReadString('\n')
				fmt.Fprintf(c, "you said %s", line)
				c.Close()
			}()
		}
	}()
	for i := 0; i < 5; i++ {
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(c, "hello %d\n", i)
		answer, _ := bufio.NewReader(c).ReadString('\n')
		fmt.Print(answer)
		c.Close()
	}
	listener.Close()
	out, err := exec.Command("echo", "child").Output()
	fmt.Printf("%q %v\n", out, err)
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-got)
	select {
	case <-got:
	case <-time.After(20 * time.Millisecond):
		fmt.Println("in time")
	}
	done := make(chan bool)
	flag := make(chan int)
	go func() {
		sum := 0
		for i := 0; i < 50000000; i++ {
			sum += i & 3
		}
		flag <- sum
		close(done)
	}()
	fmt.Println(<-flag)
	<-done
}
