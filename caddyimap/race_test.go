//go:build race

package caddyimap

const raceDetector = true
