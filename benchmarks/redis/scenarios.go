//go:build linux

package main

func scenarios() []scenario { return []scenario{publishing(), latency(), presence()} }
