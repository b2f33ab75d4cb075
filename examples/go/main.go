// Command clock tells the time in a place, from the time zones of its image.
package main

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
	"time"
)

//go:embed VERSION
var version string

func main() {
	place := "Europe/Paris"
	if len(os.Args) > 1 {
		place = os.Args[1]
	}
	if place == "--version" {
		fmt.Println("clock", strings.TrimSpace(version))
		return
	}
	where, err := time.LoadLocation(place)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clock:", err)
		os.Exit(1)
	}
	fmt.Println(time.Now().In(where).Format("15:04 MST"))
}
