import torch
from torch import nn

torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
steps_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
steps_d = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
criterion = nn.BCEWithLogitsLoss()
for _ in range(60):
    real = torch.randn(64, 2) * torch.tensor([1.0, 0.3]) + 2
    fake = generator(torch.randn(64, 4))
    steps_d.zero_grad()
    criterion(critic(real), torch.ones(64, 1)).backward()
    criterion(critic(fake.detach()), torch.zeros(64, 1)).backward()
    steps_d.step()
    steps_g.zero_grad()
    loss = criterion(critic(fake), torch.ones(64, 1))
    loss.backward()
    steps_g.step()
print(f"generator {loss.item():.6f}")
