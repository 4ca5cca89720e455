package main

import (
	"errors"
	"slices"
)

// maxOrders bounds the board, and with it the page and the largest fragment.
const maxOrders = 40

var (
	errNoOrder = errors.New("no such order")
	errFull    = errors.New("the board is full")
)

// stages are what an order goes through. After the last one it leaves the board.
var stages = []stage{{"New", "Start"}, {"Cooking", "Done"}, {"Ready", "Serve"}}

// stage is a state of an order, and what the button says that ends it.
type stage struct{ Name, Next string }

type order struct {
	ID    int
	For   string
	Items string
	Step  int // of stages
}

// Stage is for templates.
func (o order) Stage() stage { return stages[o.Step] }

// board stands for your database. It is not safe for concurrent use.
type board struct {
	orders []order
	last   int // the newest id
}

func (b *board) add(name, items string) error {
	if len(b.orders) >= maxOrders {
		return errFull
	}
	b.last++
	b.orders = append(b.orders, order{ID: b.last, For: name, Items: items})
	return nil
}

// advance takes an order from a step to the next one; a form that is sent twice does nothing more. There is no order any more
// after the last step.
func (b *board) advance(id, from int) (o order, onBoard, changed bool, err error) {
	i := slices.IndexFunc(b.orders, func(o order) bool { return o.ID == id })
	switch {
	case i < 0:
		return order{}, false, false, errNoOrder
	case b.orders[i].Step != from:
		return b.orders[i], true, false, nil
	case from == len(stages)-1:
		b.orders = slices.Delete(b.orders, i, i+1)
		return order{}, false, true, nil
	}
	b.orders[i].Step++
	return b.orders[i], true, true, nil
}
