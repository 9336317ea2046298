//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// median of nothing is not a number.
func median(numbers []float64) float64 {
	if len(numbers) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(numbers))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// spread writes the median, and in brackets the smallest and the greatest.
func spread(numbers []float64) string {
	switch len(numbers) {
	case 0:
		return "–"
	case 1:
		return digits(numbers[0])
	}
	return fmt.Sprintf("%s [%s–%s]", digits(median(numbers)), digits(slices.Min(numbers)), digits(slices.Max(numbers)))
}

// digits writes three digits that count, and counts as they are.
func digits(n float64) string {
	decimals := 2
	if math.Abs(n) < 0.0005 {
		n = 0 // not -0.000
	}
	switch size := math.Abs(n); {
	case size >= 99.95 || n == math.Trunc(n):
		decimals = 0
	case size >= 9.995:
		decimals = 1
	case size < 0.0995:
		decimals = 3
	}
	return strconv.FormatFloat(n, 'f', decimals, 64)
}
