// SPDX-License-Identifier: Apache-2.0

// Hello says which platform it was compiled for; with --serve it says so to web browsers.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime"
)

func main() {
	serve := flag.String("serve", "", "answer HTTP on this address, such as :8080")
	flag.Parse()
	host, _ := os.Hostname()
	text := fmt.Sprintf("hello from %s/%s on %s\n", runtime.GOOS, runtime.GOARCH, host)
	if *serve == "" {
		fmt.Print(text)
		return
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
	if err := http.ListenAndServe(*serve, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
