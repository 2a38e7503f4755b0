// How the messages of the collective under way move: pieces are posted inside a window, completed in order, folded when all have come.
#include <algorithm>

#include "runtime/comm/collective.h"
#include "runtime/comm/fold.h"

namespace lycia {

std::int64_t CollectiveTask::PieceBytes(const Stream& stream, std::int64_t piece) const {
  return std::min(piece_bytes_, stream.bytes - piece * piece_bytes_);
}

bool CollectiveTask::Exchange(Wire& wire) {
  bool moved = false;
  for (Peer& peer : peers_) {
    moved |= Complete(peer.send, /*is_send=*/true);
    moved |= Complete(peer.receive, /*is_send=*/false);
  }
  if (folding_) moved |= Fold(wire);
  for (int r = 0; r < size(); ++r) {
    if (r != rank_) moved |= Post(wire, r);
  }
  return moved;
}

bool CollectiveTask::Complete(Stream& stream, bool is_send) {
  bool moved = false;
  while (stream.done < stream.posted) {
    const Wire::Request& request = stream.requests[static_cast<std::size_t>(stream.done % kWindow)];
    if (!request.done) break;
    if (const std::int64_t expected = PieceBytes(stream, stream.done); !is_send && request.bytes != expected) {
      status = absl::InternalError(absl::StrCat("rank ", rank_, " got ", request.bytes, " bytes instead of ", expected, " in an operation ",
                                                std::string(Name(call_.operation)),
                                                ": the ranks disagree on the operation or its size"));
    }
    ++stream.done;
    moved = true;
  }
  return moved;
}

bool CollectiveTask::Post(Wire& wire, int r) {
  Peer& peer = peers_[static_cast<std::size_t>(r)];
  bool moved = false;
  Stream& receive = peer.receive;
  while (receive.posted < Pieces(receive.bytes) && receive.posted < (folding_ ? folded_ : receive.done) + kWindow) {
    const std::int64_t slot = receive.posted % kWindow, bytes = PieceBytes(receive, receive.posted);
    Wire::Request* request = &receive.requests[static_cast<std::size_t>(slot)];
    if (!folding_) {
      wire.Receive(receive.port, receive.memory + receive.posted * piece_bytes_, bytes, request);
    } else if (fold_after_sends_) {
      // Not borrowed: a lender's send would end only with a fold that itself waits for sends.
      wire.Receive(receive.port, peer.staging + slot * SegmentBytes(size()), bytes, request);
    } else {
      wire.Borrow(receive.port, peer.staging + slot * SegmentBytes(size()), bytes, request);
    }
    ++receive.posted;
    moved = true;
  }
  Stream& send = peer.send;
  std::int64_t ready = Pieces(send.bytes);
  if (source_peer_ >= 0) ready = std::min(ready, peers_[static_cast<std::size_t>(source_peer_)].receive.done);
  while (send.posted < ready && send.posted < send.done + kWindow) {
    const std::int64_t piece = send.posted++;
    wire.Send(send.port, send.memory + piece * piece_bytes_, PieceBytes(send, piece), /*confirmed=*/false,
              &send.requests[static_cast<std::size_t>(piece % kWindow)]);
    moved = true;
  }
  return moved;
}

bool CollectiveTask::Fold(Wire& wire) {
  bool moved = false;
  for (; folded_ < Pieces(fold_bytes_); ++folded_) {
    for (int r = 0; r < size(); ++r) {
      const Peer& peer = peers_[static_cast<std::size_t>(r)];
      if (r == rank_) continue;
      if (peer.receive.done <= folded_) return moved;
      if (fold_after_sends_ && peer.send.done < Pieces(peer.send.bytes)) return moved;
    }
    const std::int64_t begin = folded_ * piece_bytes_, bytes = std::min(piece_bytes_, fold_bytes_ - begin);
    const std::size_t slot = static_cast<std::size_t>(folded_ % kWindow);
    for (int r = 0; r < size(); ++r) {
      const std::size_t at = static_cast<std::size_t>(r);
      fold_sources_[at] = r == rank_ ? own_ + begin : peers_[at].receive.requests[slot].data;
    }
    mover_->LeftFold(call_.dtype, fold_sources_, bytes / SizeOf(call_.dtype), call_.fold, call_.accumulate, fold_out_ + begin);
    for (Peer& peer : peers_) {
      if (peer.receive.requests[slot].partner != nullptr) wire.GiveBack(&peer.receive.requests[slot]);
    }
    moved = true;
  }
  return moved;
}

bool CollectiveTask::Finished() const {
  for (const Peer& peer : peers_) {
    if (peer.send.done < Pieces(peer.send.bytes) || peer.receive.done < Pieces(peer.receive.bytes)) return false;
  }
  return !folding_ || folded_ == Pieces(fold_bytes_);
}

}  // namespace lycia
