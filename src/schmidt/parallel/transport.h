#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace schmidt::parallel {

/// A message on its way.
class Message {
 public:
  virtual ~Message() = default;

  /// Whether its bytes have arrived, or may be overwritten where they were sent from.
  /// Brings all messages forward. Throws LostRank if the other rank is out of reach.
  virtual bool done() = 0;
};

/// Messages between the ranks of a group, here numbered 0 .. size - 1. No call waits.
/// Messages from one rank to another on one channel are received in the order in which
/// they are sent. Calls may come from any thread.
class Transport {
 public:
  enum Channel { kCollective, kDirect };

  virtual ~Transport() = default;
  virtual int64_t rank() const = 0;
  virtual int64_t size() const = 0;

  /// The number of a rank of the group among all ranks.
  virtual int64_t global_rank(int64_t rank) const = 0;

  /// Bytes stay in place until the message is done.
  virtual std::unique_ptr<Message> send(std::span<const std::byte> bytes, int64_t to,
                                        Channel channel) = 0;

  /// As many bytes as are sent.
  virtual std::unique_ptr<Message> receive(std::span<std::byte> bytes, int64_t from,
                                           Channel channel) = 0;

  /// Lets another rank know that this one lives.
  virtual void greet(int64_t to) = 0;

  /// A rank whose greeting has come since; none if there is none.
  virtual std::optional<int64_t> greeted() = 0;
};

/// MPI's messages between these ranks, given in the same order by each of them, at the
/// same place among such calls. Null for a group of one.
/// Throws c10::ValueError if this rank is not among them, or one is named twice.
std::unique_ptr<Transport> make_transport(const std::vector<int64_t>& ranks);

}  // namespace schmidt::parallel
