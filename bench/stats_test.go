//go:build linux

package main

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		numbers []float64
		want    float64
	}{
		{[]float64{3}, 3},
		{[]float64{5, 1, 3}, 3},
		{[]float64{8, 1, 2, 4}, 3},
	} {
		before := append([]float64(nil), tc.numbers...)
		if got := median(tc.numbers); got != tc.want {
			t.Errorf("median(%v) = %v, want %v", tc.numbers, got, tc.want)
		}
		for i := range before {
			if tc.numbers[i] != before[i] {
				t.Errorf("median has changed %v to %v", before, tc.numbers)
			}
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
}

func TestSpread(t *testing.T) {
	for _, tc := range []struct {
		numbers []float64
		want    string
	}{
		{nil, "–"},
		{[]float64{5000}, "5000"},
		{[]float64{0.5, 0.25, 1}, "0.50 [0.25–1]"},
		{[]float64{0.0123, 12.34, 123.4}, "12.3 [0.012–123]"},
		{[]float64{-3.21, 0}, "-1.60 [-3.21–0]"},
		{[]float64{9.996}, "10.0"},
		{[]float64{99.96}, "100"},
		{[]float64{-0.0001}, "0"},
	} {
		if got := spread(tc.numbers); got != tc.want {
			t.Errorf("spread(%v) = %q, want %q", tc.numbers, got, tc.want)
		}
	}
}
