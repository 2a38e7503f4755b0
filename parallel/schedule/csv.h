// A schedule as CSV, torch's grammar extended by pipes and parts: one row per worker, cells in issue order, compute instructions only.
//
//   p0.2F1               pipe 0, stage 2, forward of micro-batch 1; B full backward, I input gradient, W weight gradient
//   2F1                  torch's form: pipe 0
//   p0.3B5/0, p0.3B5/1   the parts of a divided instruction (halved backwards, forwards too): all of them, from 0
//   (p0.0F5;p1.7B3)OVERLAP_F_B   a paired block: starts when all its messages are there, releases its outputs at its end
//
//   p0.0F0,p0.0B0        gives and takes a schedule of two workers
//   p0.1F0,p0.1B0
#ifndef LYCIA_PARALLEL_SCHEDULE_CSV_H_
#define LYCIA_PARALLEL_SCHEDULE_CSV_H_

#include <string>
#include <string_view>

#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

std::string RenderCsv(const Schedule& schedule);

// The schedule with that program and name; its shape and placement are what the cells say: any stage on any worker, several of them too,
// but no pipe without a micro-batch. Micro-batches, pipes and stages are numbered from 0 without holes. Empty cells (torch's idle ticks),
// blanks around cells and lines that start with # are skipped. Errors (InvalidArgument) name line and cell: bad grammar, a stage on two
// workers, a micro-batch in two pipes, a number missing, a worker without a stage, stages that do not divide among the workers (a stage
// takes the same share of a worker's cost in all). Order and completeness are Verify's to judge.
StatusOr<Schedule> ParseCsv(std::string_view text, std::string_view name = "csv");

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_CSV_H_
