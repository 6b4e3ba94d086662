// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Machine is an architecture as people know it.
type Machine struct {
	Name  string // as in linux/NAME
	Bits  int
	Order string // of bytes
	Found string // where it is at home
}

// Picture is the name of its file.
func (machine Machine) Picture() string { return strings.ReplaceAll(machine.Name, "/", "-") }

var machines = []Machine{
	{"amd64", 64, "little", "PCs and most servers"},
	{"386", 32, "little", "PCs of the nineties, small boards today"},
	{"arm64", 64, "little", "Laptops, phones, servers in clouds"},
	{"arm/v7", 32, "little", "Boards and boxes with 32-bit ARM"},
	{"arm/v6", 32, "little", "The smallest boards"},
	{"ppc64le", 64, "little", "POWER servers"},
	{"s390x", 64, "big", "Mainframes"},
	{"riscv64", 64, "little", "Boards with an open instruction set"},
}

// Identity is what one running copy knows of itself.
type Identity struct {
	Platform string // as in an image: linux/arm/v7
	Machine  Machine
	Known    bool // is there a picture of it?
	Host     string
	Node     string // may be empty
	Image    string // as it was told, without the digest; empty if nobody told
	Digest   string // empty if nobody told
	Go       string
	Started  time.Time
}

var pinned = regexp.MustCompile(`^([^@\s]*)@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

// identify asks the compiler, the kernel and the environment.
func identify(env func(string) string) Identity {
	name := runtime.GOARCH + variant()
	self := Identity{
		Platform: runtime.GOOS + "/" + name,
		Machine:  Machine{Name: name},
		Node:     clean(env("QCON_NODE")),
		Go:       runtime.Version(),
		Started:  time.Now(),
	}
	for _, machine := range machines {
		if machine.Name == name {
			self.Machine, self.Known = machine, true
		}
	}
	self.Host, _ = os.Hostname()
	self.Image, self.Digest = image(env("QCON_IMAGE"))
	return self
}

// variant is what GOARM was; the program itself is told only that it is for arm.
func variant() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || runtime.GOARCH != "arm" {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "GOARM" && setting.Value != "" {
			return "/v" + setting.Value[:1] // also of "7,hardfloat"
		}
	}
	return ""
}

// image splits NAME@DIGEST. What is no digest is not shown as one.
func image(text string) (name, digest string) {
	text = clean(text)
	if found := pinned.FindStringSubmatch(text); found != nil {
		return found[1], found[2]
	}
	name, _, _ = strings.Cut(text, "@")
	return name, ""
}

// clean keeps a value to one short printable line.
func clean(text string) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text))
	if len(text) > 300 {
		return strings.ToValidUTF8(text[:300], "")
	}
	return text
}
